"""The route of the parts of resumable uploads."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from broker import errors
from broker.api import schemas
from broker.api.asgi.demands import PartsUploader
from broker.api.asgi.document import Document
from broker.api.asgi.route import ProblemRoute
from broker.api.asgi.target import base_address
from broker.api.documentation import AUTHENTICATED, S3_UNAVAILABLE, operation_id, problems
from broker.api.state import services
from broker.domain.parts import MAX_PARTS
from broker.lifecycle.requests import PartsPage
from broker.lifecycle.resumable.forms import MAX_PAGE

_PARTS_PAGE = schemas.serializer(schemas.PartsPage)

router = APIRouter(route_class=ProblemRoute, tags=["media"], generate_unique_id_function=operation_id)


@router.get(
    "/{media_id}/parts",
    response_model=schemas.PartsPage,
    responses=problems(
        *AUTHENTICATED,
        errors.HostInvalid,
        errors.MediaNotFound,
        errors.NotResumable,
        errors.UploadRejected,
        errors.UploadExpired,
        *S3_UNAVAILABLE,
    ),
)
async def list_parts(
    request: Request,
    caller: PartsUploader,
    media_id: UUID,
    first: Annotated[int, Query(alias="from", ge=1, le=MAX_PARTS)] = 1,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
    forms: Annotated[int, Query(ge=0, le=MAX_PAGE)] = MAX_PAGE,
) -> Response:
    """Tell which parts of a resumable upload have arrived, and issue fresh forms for the missing ones.

    `forms` bounds the number of forms, so that one request can learn the state of 1,000 parts and fetch a few forms.
    """
    page = await services(request).lifecycle.parts(media_id, caller.reach, first=first, limit=limit, max_forms=forms)
    answer: schemas.PartsPage = {
        "success": True,
        "media_id": media_id,
        "status": page.media.state,
        "parts": page_of_parts(page),
        "expires_at": page.expires_at,
        "expires_in": page.expires_in,
        "upload_expires_at": page.media.upload_expires_at,
        "complete_url": f"{base_address(request, '/{media_id}/parts')}/{media_id}/complete",
    }
    return Document(_PARTS_PAGE.to_json(answer))


def page_of_parts(page: PartsPage) -> schemas.Parts:
    """Return a page as a response shows it."""
    layout = page.media.layout
    return {
        "url": page.url,
        "part_size": layout.part_size,
        "count": layout.count,
        "fields": page.fields,
        "forms": [{"number": form.number, "size": form.size, "fields": form.fields} for form in page.forms],
        "arrived": page.arrived,
        "next_from": page.next_from,
    }
