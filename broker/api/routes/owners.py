"""The route about an owner as a whole, for administrators."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from broker.api import schemas
from broker.api.asgi.demands import Administrator
from broker.api.asgi.document import Document
from broker.api.asgi.route import ProblemRoute
from broker.api.documentation import AUTHENTICATED, operation_id, problems
from broker.api.state import services

router = APIRouter(route_class=ProblemRoute, tags=["owners"], generate_unique_id_function=operation_id)
_ERASED = schemas.serializer(schemas.Erased)


@router.delete("/", status_code=202, response_model=schemas.Erased, responses=problems(*AUTHENTICATED))
async def erase_owner(request: Request, caller: Administrator, owner: Annotated[schemas.Owner, Query()]) -> Response:
    """Erase all that one owner has: media, objects, records, webhooks and usage. Needs `media:admin`.

    The media are gone at once for every client. The worker removes the objects, and the records about two hours after
    the last policy has ended. Media that the owner issued on behalf of others stay, and no longer name it. Repeating
    the request is harmless, and tells how many records still name the owner.
    """
    left, finished = await services(request).erasure.request(owner)
    message = "The owner is erased." if finished else "The owner is being erased."
    return Document(_ERASED.to_json(schemas.Erased(success=True, owner=owner, media_left=left, message=message)), 202)


def without_slash(prefix: str) -> APIRouter:
    """Return a router that also serves the erasure at `prefix` without a trailing slash."""
    slashless = APIRouter(route_class=ProblemRoute)
    slashless.add_api_route(prefix, erase_owner, methods=["DELETE"], status_code=202, response_model=schemas.Erased)
    return slashless
