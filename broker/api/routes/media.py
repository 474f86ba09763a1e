"""The media routes; each one calls one verb."""

import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import Annotated
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import RedirectResponse

from broker import errors
from broker.api import schemas
from broker.api.asgi.demands import AddressDemand, Completer, Deleter, Reader, Viewer
from broker.api.asgi.document import Document
from broker.api.asgi.route import ProblemRoute
from broker.api.asgi.target import base_address
from broker.api.documentation import AUTHENTICATED, COUNTED, S3_UNAVAILABLE, operation_id, problems
from broker.api.problems import NO_STORE
from broker.api.state import services
from broker.domain import media
from broker.domain.s3.policy import MAX_PLAYBACK_SECONDS
from broker.lifecycle import verbs
from broker.lifecycle.requests import Playback
from broker.lifecycle.waiting import MAX_WAIT_SECONDS

_PLAYBACK = schemas.serializer(schemas.Playback)
_MEDIA_LIST = schemas.serializer(schemas.MediaList)
_DELETED = schemas.serializer(schemas.Deleted)

router = APIRouter(route_class=ProblemRoute, tags=["media"], generate_unique_id_function=operation_id)


@router.post(
    "/{media_id}/complete",
    response_model=schemas.Playback,
    responses=problems(
        *AUTHENTICATED,
        errors.MediaNotFound,
        errors.NothingUploaded,
        errors.PartsMissing,
        errors.PromotionRunning,
        errors.UploadRejected,
        errors.UploadExpired,
        errors.ProbeFailed,
        *S3_UNAVAILABLE,
    ),
)
async def complete_upload(request: Request, caller: Completer, media_id: UUID) -> Response:
    """Check the uploaded object and make it playable. Repeating the request is harmless."""
    built = services(request)
    if caller.upload is not None:
        completed = await built.token_verbs.complete(media_id)
    else:
        completed = await built.lifecycle.complete(media_id, caller.reach)
    return _playback(completed, "The media is ready.")


@router.get(
    "/{media_id}/uploaded/{state}",
    status_code=303,
    response_class=RedirectResponse,
    dependencies=[Depends(AddressDemand("form"))],
    responses=problems(*COUNTED, errors.MediaNotFound, errors.RequestInvalid, errors.DatabaseUnavailable),
)
async def return_from_form(request: Request, media_id: UUID, state: str) -> Response:
    """Receive a browser from S3: complete its upload, then redirect it to the app with `media_id` and `status`."""
    services(request).form_states.check(media_id, state)
    uploaded = await services(request).lifecycle.complete_form(media_id)
    return RedirectResponse(
        _with_query(uploaded.redirect_url, media_id=str(media_id), status=uploaded.status), 303, NO_STORE
    )


@router.get(
    "/{media_id}",
    response_model=schemas.Playback,
    responses=problems(
        *AUTHENTICATED, errors.HostInvalid, errors.MediaNotFound, errors.NotReady, errors.CredentialsExpired
    ),
)
async def get_media(
    request: Request,
    caller: Viewer,
    media_id: UUID,
    expires_in: Annotated[int, Query(ge=1, le=MAX_PLAYBACK_SECONDS)] = verbs.DEFAULT_PLAYBACK_SECONDS,
    download: bool = False,
    wait: Annotated[int, Query(ge=0, le=MAX_WAIT_SECONDS)] = 0,
) -> Response:
    """Return a link to a ready media. The response's `expires_in` is shorter if the signing keys expire sooner.

    With `wait`, the response comes once the media is ready, rejected or expired, or after that many seconds. The
    problem of a resumable upload that is pending names its `parts_url`, where its missing parts get fresh forms.
    """
    built = services(request)
    if wait:
        await built.waiting.until_settled(
            media_id, caller.reach, waiter=caller.owner, seconds=wait, wanted=_still_connected(request)
        )
    try:
        if caller.upload is not None:
            shown = await built.token_verbs.watch(media_id, expires_in=expires_in, download=download)
        else:
            shown = await built.lifecycle.playback(media_id, caller.reach, expires_in=expires_in, download=download)
    except errors.NotReady as error:
        if isinstance(record := error.facts.get("media"), media.Media):
            error.facts |= _resumption(request, "/{media_id}", record)
        raise
    return _playback(shown, "The link is ready." if isinstance(shown, Playback) else "The media is ready.")


@router.get("/", response_model=schemas.MediaList, responses=problems(*AUTHENTICATED, errors.HostInvalid))
async def list_media(
    request: Request,
    caller: Reader,
    status: media.State | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """List the caller's media, newest first."""
    records = await services(request).lifecycle.list_media(
        caller.owner, state=status, limit=limit + 1, before=_from_cursor(cursor)
    )
    page = records[:limit]
    next_cursor = _to_cursor(page[-1].id) if len(records) > limit else None
    answer = schemas.MediaList(
        success=True, media=[_listed(request, record) for record in page], next_cursor=next_cursor
    )
    return Document(_MEDIA_LIST.to_json(answer))


@router.delete("/{media_id}", response_model=schemas.Deleted, responses=problems(*AUTHENTICATED, errors.MediaNotFound))
async def delete_media(request: Request, caller: Deleter, media_id: UUID) -> Response:
    """Delete a media and its objects. The media is gone at once; if S3 is unavailable, its objects are purged later."""
    if caller.upload is not None:
        await services(request).token_verbs.cancel(media_id)
    else:
        await services(request).lifecycle.delete(media_id, caller.reach)
    answer = schemas.Deleted(
        success=True,
        media_id=media_id,
        status=media.State.DELETING,
        message=schemas.DELETED_MESSAGE,
    )
    return Document(_DELETED.to_json(answer))


def without_slash(prefix: str) -> APIRouter:
    """Return a router that also serves the list at `prefix` without a trailing slash."""
    slashless = APIRouter(route_class=ProblemRoute)
    slashless.add_api_route(prefix, list_media, response_model=schemas.MediaList)
    return slashless


def _still_connected(request: Request) -> Callable[[], Awaitable[bool]]:
    async def connected() -> bool:
        return not await request.is_disconnected()

    return connected


def _listed(request: Request, record: media.Media) -> schemas.Media:
    listed: schemas.Media = {**_media(record), **_resumption(request, "/", record)}
    return listed


def _resumption(request: Request, path_of_route: str, record: media.Media) -> schemas.Resumption:
    """Return whether a media is resumable, and where its client goes on while it is pending."""
    if record.part_size is None or record.state is not media.State.PENDING:
        return {"resumable": record.part_size is not None}
    return {
        "resumable": True,
        "parts_url": f"{base_address(request, path_of_route)}/{record.id}/parts",
        "upload_expires_at": record.upload_expires_at,
    }


def _media(record: media.Media) -> schemas.Media:
    return {
        "media_id": record.id,
        "status": record.state,
        "content_type": record.content_type,
        "size": record.size if record.size is not None else record.promised_size,
        "filename": record.filename,
        "duration_seconds": record.duration_seconds,
        "video": _video(record),
        "metadata": record.metadata,
        "created_at": record.created_at,
        "ready_at": record.ready_at,
        "resumable": record.part_size is not None,
    }


def _video(record: media.Media) -> schemas.Video | None:
    video = record.video
    if video is None:
        return None
    return {"seconds": video.seconds, "codec": video.codec, "width": video.width, "height": video.height}


def _playback(shown: Playback | media.Media, message: str) -> Response:
    """Return the response for a ready media with its link, or without one for an upload token."""
    record, link = (shown.media, shown) if isinstance(shown, Playback) else (shown, None)
    answer: schemas.Playback = {
        **_media(record),
        "success": True,
        "etag": record.etag,
        "signed_url": link and link.signed_url,
        "expires_in": link and link.expires_in,
        "expires_at": link and link.expires_at,
        "message": message,
    }
    return Document(_PLAYBACK.to_json(answer))


def _with_query(url: str, **parameters: str) -> str:
    """Return `url` with parameters in its query, in place of any that it has of these names."""
    parts = urlsplit(url)
    kept = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in parameters]
    query = [*kept, *parameters.items()]
    return urlunsplit(parts._replace(query=urlencode(query)))


def _to_cursor(media_id: UUID) -> str:
    return base64.urlsafe_b64encode(media_id.bytes).decode().rstrip("=")


def _from_cursor(cursor: str | None) -> UUID | None:
    if cursor is None:
        return None
    try:
        return UUID(bytes=base64.urlsafe_b64decode(cursor + "=="))
    except (binascii.Error, ValueError):
        at, problem = "query.cursor", "should be the next_cursor of an earlier page"
        raise errors.RequestInvalid(reason=f"{at}: {problem}", errors=[{"at": at, "problem": problem}]) from None
