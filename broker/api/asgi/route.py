"""The route class of this interface: demands are met first, and every failure leaves as a problem.

Both hold wherever the router is mounted, without the application's middleware and exception handlers.
"""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog
from fastapi import Request, Response
from fastapi.routing import APIRoute

from broker.api.asgi.body import check_announced
from broker.api.asgi.demands import CALLER, Demand
from broker.api.asgi.fields import index_fields
from broker.api.asgi.parameters import Parameters
from broker.api.limits.windows import Standing
from broker.api.problems import internal_problem, problem_response
from broker.api.state import services
from broker.errors import BrokerError, RateLimited

log = structlog.get_logger()


class ProblemRoute(APIRoute):
    """Meet the route's demand before the body is read; answer domain errors and invalid requests with problems."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the short way through this route, in the place of FastAPI's own."""
        calls: list[object] = [found.call for found in self.dependant.dependencies]
        demands = [call for call in calls if isinstance(call, Demand)]
        parameters = Parameters(self.dependant)
        endpoint: Callable[..., Awaitable[Response]] = self.endpoint

        async def answer(request: Request) -> Response:
            standing: Standing | None = None
            index_fields(request.scope)
            try:
                for demand in demands:
                    standing = await demand.admit(request) or standing
                check_announced(request.scope)
                response = await endpoint(**await parameters.read(request, request.scope.get(CALLER)))
            except BrokerError as error:
                response = problem_response(error)
                if isinstance(error, RateLimited):
                    standing = services(request).limits.exhausted(error)
            except Exception as error:
                log.exception("request failed", error=type(error).__name__)
                response = internal_problem()
            if standing is not None:
                response.raw_headers += standing.headers()
            return response

        return answer
