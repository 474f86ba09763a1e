"""The route class of this interface: demands are met first, and every failure leaves as a problem.

Both hold wherever the router is mounted, without the application's middleware and exception handlers.
"""

from collections.abc import Callable, Coroutine
from typing import Any

import structlog
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from broker.api.auth import Demand
from broker.api.body import bounded, check_announced
from broker.api.problems import internal_problem, problem_response, validation_error
from broker.errors import BrokerError, RequestInvalid

log = structlog.get_logger()


class ProblemRoute(APIRoute):
    """Meet the route's demand before the body is read; answer domain errors and invalid requests with problems."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap FastAPI's handler."""
        handle = super().get_route_handler()
        calls: list[object] = [found.call for found in self.dependant.dependencies]
        demands = [call for call in calls if isinstance(call, Demand)]
        reads_body = self.body_field is not None

        async def answer(request: Request) -> Response:
            headers: dict[str, str] = {}
            try:
                check_announced(request.scope)
                for demand in demands:
                    if (standing := await demand.admit(request)) is not None:
                        headers = standing.headers()
                if reads_body:
                    request = Request(request.scope, bounded(request.receive))
                response = await handle(request)
            except BrokerError as error:
                response = problem_response(error)
            except RequestValidationError as error:
                response = problem_response(validation_error(error))
            except HTTPException as error:
                response = problem_response(_body_error(error))
            except Exception as error:
                log.exception("request failed", error=type(error).__name__)
                response = internal_problem()
            for name, value in headers.items():
                response.headers.setdefault(name, value)
            return response

        return answer


def _body_error(error: HTTPException) -> BrokerError:
    """Return what was wrong with a body that could not be read; FastAPI answers 400 for any such cause."""
    if isinstance(error.__cause__, BrokerError):
        return error.__cause__
    return RequestInvalid(reason="body: should be JSON in UTF-8", errors=[{"at": "body", "problem": str(error.detail)}])
