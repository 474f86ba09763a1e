"""The refusal of other methods: 405 with all methods that a path has (RFC 9110, section 15.5.6).

Without it `/{media_id}` would take GET /upload for a media, and Starlette's `Allow` would name those of one route.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable
from itertools import chain

from fastapi import APIRouter, Response
from fastapi.routing import APIRoute

from broker.api.asgi.route import ProblemRoute
from broker.api.problems import http_problem

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})


def refusals(*routers: APIRouter, fixed: bool) -> APIRouter:
    """Return a router that refuses the methods which the paths of `routers` do not have.

    With `fixed` it has the paths without parameters, and must be included before any path with some; otherwise it has
    the others, and must come last.
    """
    allowed: defaultdict[str, set[str]] = defaultdict(set)
    for route in chain.from_iterable(router.routes for router in routers):
        if isinstance(route, APIRoute) and ("{" not in route.path) is fixed:
            allowed[route.path] |= route.methods or set()
    refusing = APIRouter(route_class=ProblemRoute)
    for path, methods in allowed.items():
        refusing.add_api_route(path, _refusal(methods), methods=sorted(METHODS - methods), include_in_schema=False)
    return refusing


def _refusal(methods: set[str]) -> Callable[[], Awaitable[Response]]:
    allow = ", ".join(sorted(methods))

    async def refuse() -> Response:
        return http_problem(405, f"This path takes {allow} only.", {"Allow": allow})

    return refuse
