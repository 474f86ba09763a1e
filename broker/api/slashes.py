"""Paths with a slash too few or too many.

FastAPI would redirect them, to the Host and the scheme of the request. Behind TLS that is plain http, and a client that
follows sends its token there. So the router has a route for each of them, wherever it is mounted.
"""

from collections.abc import Iterable

from fastapi import APIRouter, Response
from starlette.convertors import Convertor, register_url_convertor
from starlette.routing import BaseRoute, Route

from broker.api.media import list_media
from broker.api.problems import http_problem
from broker.api.route import ProblemRoute

METHODS = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"]


class Omitted(Convertor[str]):
    """Match nothing, for a route at the prefix itself: FastAPI takes no empty path where there is no prefix."""

    regex = ""

    def convert(self, value: str) -> str:
        """Return it as it is."""
        return value

    def to_string(self, value: str) -> str:
        """Return it as it is."""
        return value


class Surplus(Omitted):
    """Match slashes, as many as there are."""

    regex = "/+"


register_url_convertor("omitted", Omitted())
register_url_convertor("surplus", Surplus())


def slash_router(routes: Iterable[BaseRoute]) -> APIRouter:
    """Return a router that lists media without the slash, and knows none of `routes` with slashes behind it."""
    router = APIRouter(route_class=ProblemRoute, include_in_schema=False)
    router.add_api_route("{slash:omitted}", list_media)
    for path in dict.fromkeys(route.path for route in routes if isinstance(route, Route)):
        router.add_api_route(f"{path}{{slashes:surplus}}", no_such_path, methods=METHODS)
    return router


async def no_such_path() -> Response:
    """Answer as for any other unknown path."""
    return http_problem(404, "Not Found")
