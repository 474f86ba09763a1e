"""The route class of this interface: dependencies and demands come before the body, and failures become problems.

Both hold wherever the router is mounted, without the application's middleware and exception handlers.
"""

from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import cached_property
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute, _effective_route_context_var, iter_route_contexts
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from broker.api.asgi.body import check_announced
from broker.api.asgi.demands import CALLER, Demand
from broker.api.asgi.failure import FailedResponse, is_handled_by_host
from broker.api.asgi.gate import behind, host_dependencies
from broker.api.asgi.parameters import Parameters
from broker.api.limits.windows import Standing
from broker.api.problems import http_problem, internal_problem, problem_response
from broker.api.state import services
from broker.errors import BrokerError, RateLimited


class ProblemRoute(APIRoute):
    """Admit a request before its body is read; answer domain errors and invalid requests with problems.

    The dependencies of a host application come first, then the route's own demands.
    """

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request. Answer 501 for a method that HTTP itself does not define (RFC 9110, section 15.6.2).

        `refusals` refuses the others with the `Allow` of the path; Starlette's would name the methods of one route.
        """
        if self.methods and scope["method"] not in self.methods:
            await http_problem(501, "No path takes this method.")(scope, receive, send)
            return
        await super().handle(scope, receive, send)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return a handler that replaces FastAPI's own.

        Raises TypeError for a dependency that cannot be run before the body is read.
        """
        route = self._included()
        dependant = route.dependant
        demands = [dependency.call for dependency in dependant.dependencies if isinstance(dependency.call, Demand)]
        endpoint: Callable[..., Awaitable[Response]] = self.endpoint

        async def answer(request: Request, **solved: Any) -> Response:
            standing: Standing | None = None
            try:
                for demand in demands:
                    standing = await demand.admit(request) or standing
                check_announced(request.scope)
                arguments = await self._parameters.read(request, request.scope.get(CALLER))
                response = await endpoint(**arguments, **solved)
            except BrokerError as error:
                response = problem_response(error)
                if isinstance(error, RateLimited):
                    standing = services(request).limits.exhausted(error)
            except Exception as error:
                if is_handled_by_host(request, error):
                    raise
                response = FailedResponse(internal_problem(), error)
            if standing is not None:
                response.raw_headers += standing.headers()
            return response

        if dependencies := host_dependencies(dependant):
            return behind(dependencies, answer, dependant.path, route.dependency_overrides_provider)
        return answer

    @cached_property
    def _parameters(self) -> Parameters:
        """Return the endpoint's arguments, which no inclusion changes."""
        return Parameters(self.dependant)

    def _included(self) -> Any:
        """Return this route with the dependencies of the router that includes it, or the route by itself.

        FastAPI builds a handler each time a router includes the route. Only this context variable names the inclusion.
        """
        inclusion = _effective_route_context_var.get()
        return inclusion if inclusion is not None and inclusion.original_route is self else self


def build_handlers(routes: Iterable[BaseRoute]) -> None:
    """Build the handlers of an application's routes now, where FastAPI would at the first request.

    Raises TypeError for a dependency that a route of the broker cannot run.
    """
    for _ in iter_route_contexts(list(routes)):
        pass
