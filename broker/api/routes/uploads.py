"""The routes that issue uploads, one or up to 100 in one request, and the rules that they follow."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response

from broker import errors
from broker.api import schemas
from broker.api.asgi.demands import RuleReader, Uploader
from broker.api.asgi.document import Document
from broker.api.asgi.route import ProblemRoute
from broker.api.asgi.target import base_address
from broker.api.auth.caller import DELEGATE, Caller
from broker.api.documentation import AUTHENTICATED, S3_UNAVAILABLE, operation_id, problems
from broker.api.problems import problem_document
from broker.api.routes.parts import page_of_parts
from broker.api.state import Services, services
from broker.domain.media import State
from broker.domain.parts import MAX_PARTS
from broker.domain.rules import MAX_METADATA_BYTES, MIN_SIZE
from broker.domain.video_types import VIDEO_TYPES
from broker.errors import BrokerError
from broker.lifecycle.application.agreement import key_of_place
from broker.lifecycle.requests import Issued, UploadRequest

IdempotencyKey = Annotated[str | None, Header(min_length=1, max_length=255, pattern=r"^[\x20-\x7e]+$")]

_ISSUED = schemas.serializer(schemas.Issued)
_ISSUED_UPLOADS = schemas.serializer(schemas.IssuedUploads)
_RULES = schemas.serializer(schemas.Rules)
_VIDEO_TYPES = {row.name: row for row in VIDEO_TYPES}

router = APIRouter(route_class=ProblemRoute, tags=["media"], generate_unique_id_function=operation_id)


@router.post(
    "/upload",
    status_code=201,
    response_model=schemas.Issued,
    responses={
        200: {"model": schemas.Issued, "description": "The Idempotency-Key's media is no longer pending"},
        **problems(
            *AUTHENTICATED,
            errors.HostInvalid,
            errors.BodyCutShort,
            errors.BodyTooSlow,
            errors.TypeNotAllowed,
            errors.SizeNotAllowed,
            errors.ResumableRequired,
            errors.DurationNotAllowed,
            errors.MetadataTooLarge,
            errors.RedirectNotAllowed,
            errors.UploadRefused,
            errors.QuotaExceeded,
            errors.IdempotencyKeyReused,
            errors.IdempotencyKeyInFlight,
            errors.UploadRejected,
            errors.UploadExpired,
            *S3_UNAVAILABLE,
            errors.ApplicationUnavailable,
        ),
    },
)
async def issue_upload(
    request: Request, caller: Uploader, body: schemas.UploadBody, idempotency_key: IdempotencyKey = None
) -> Response:
    """Issue a policy for one upload. Post its fields and the file to its URL, then complete the upload.

    With an `Idempotency-Key`, a repeated request gets the same media. A backend with `media:delegate` may name the
    `owner`, and hand the answer, with its `upload_token`, to the page of that user.
    """
    built = services(request)
    if body.owner is not None:
        caller.require(DELEGATE)
    if DELEGATE in caller.permissions:
        await built.limits.count("issue", body.owner or caller.owner)
    base = base_address(request, "/upload")
    issued = await _issue(built, caller, body, idempotency_key, base)
    return Document(_ISSUED.to_json(_answer(built, issued, base)), 201 if issued.media.state is State.PENDING else 200)


@router.post(
    "/uploads",
    status_code=201,
    response_model=schemas.IssuedUploads,
    responses=problems(*AUTHENTICATED, errors.HostInvalid, errors.BodyCutShort, errors.BodyTooSlow),
)
async def issue_uploads(
    request: Request, caller: Uploader, body: schemas.UploadsBody, idempotency_key: IdempotencyKey = None
) -> Response:
    """Issue up to 100 uploads in one commit, each with its own answer or problem, in the order of the request.

    Each upload counts against the rate limit. With an `Idempotency-Key`, a repeated request gets the same media, and
    the limit refuses only new ones.
    """
    built = services(request)
    base = base_address(request, "/uploads")
    first_is_settled = asyncio.Event()

    async def count(place: int, owner: str, key: str | None) -> None:
        try:
            await built.limits.count("issue", owner)
        except errors.RateLimited:
            # The first one is refused nevertheless, so that requests that repeat everything are limited, too.
            if place == 0 or key is None:
                raise
            # While another process records the same uploads, the first one waits in the database for that commit.
            await first_is_settled.wait()
            if not await built.lifecycle.has_issued(caller.owner, key):
                raise

    async def outcome(place: int, upload: schemas.UploadBody) -> schemas.Issued | schemas.RefusedUpload:
        try:
            if upload.owner is not None:
                caller.require(DELEGATE)
            key = None if idempotency_key is None else key_of_place(idempotency_key, place)
            if place > 0 or DELEGATE in caller.permissions:  # the first one was counted with the request
                await count(place, upload.owner or caller.owner, key)
            return _answer(built, await _issue(built, caller, upload, key, base), base)
        except BrokerError as error:
            return schemas.RefusedUpload.model_validate(problem_document(error))
        finally:
            if place == 0:
                first_is_settled.set()

    # Together, so that the store records them in one commit.
    outcomes = await asyncio.gather(*(outcome(place, upload) for place, upload in enumerate(body.uploads)))
    return Document(_ISSUED_UPLOADS.to_json({"success": True, "uploads": outcomes}), 201)


@router.get("/rules", response_model=schemas.Rules, responses=problems(*AUTHENTICATED))
async def get_rules(request: Request, caller: RuleReader) -> Response:
    """Tell what the caller may upload, so that a client can check a file before it asks for an upload."""
    rules = services(request).rules
    answer = schemas.Rules(
        success=True,
        types=[_allowed_type(name) for name in rules.types],
        min_size=MIN_SIZE,
        max_size=rules.max_size,
        max_form_size=rules.max_form_size,
        part_size=rules.part_size,
        max_parts=MAX_PARTS,
        max_duration_seconds=rules.max_duration_seconds,
        max_metadata_size=MAX_METADATA_BYTES,
    )
    return Document(_RULES.to_json(answer))


def _allowed_type(name: str) -> schemas.AllowedType:
    row = _VIDEO_TYPES.get(name)
    other_names, extensions = (row.other_names, row.extensions) if row is not None else ((), ())
    return {"content_type": name, "other_names": list(other_names), "extensions": list(extensions)}


async def _issue(
    built: Services, caller: Caller, body: schemas.UploadBody, idempotency_key: str | None, base: str
) -> Issued:
    return await built.lifecycle.issue(
        UploadRequest(**body.__dict__),
        caller.owner,
        permissions=caller.permissions,
        idempotency_key=idempotency_key,
        uploaded_url=lambda media_id: f"{base}/{media_id}/uploaded/{built.form_states.make(media_id)}",
    )


def _answer(built: Services, issued: Issued, base: str) -> schemas.Issued:
    recorded = issued.media
    pending = recorded.state is State.PENDING
    answer = schemas.Issued(
        success=True,
        media_id=recorded.id,
        status=recorded.state,
        upload={"method": "POST", "url": issued.url, "fields": issued.fields, "headers": {}} if pending else None,
        expires_at=issued.expires_at,
        expires_in=issued.expires_in,
        max_size=recorded.promised_bytes,
        complete_url=f"{base}/{recorded.id}/complete",
    )
    if recorded.part_size is not None:
        answer["upload"] = None
        answer["parts"] = None if issued.parts is None else page_of_parts(issued.parts)
        answer["parts_url"] = f"{base}/{recorded.id}/parts"
        answer["upload_expires_at"] = recorded.upload_expires_at
    if recorded.issued_by is not None:
        answer["upload_token"] = built.upload_tokens.make(recorded.id, recorded.accepts_until)
    return answer
