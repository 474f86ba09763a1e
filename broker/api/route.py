"""The route class of this interface: every failure leaves as a problem, wherever the router is mounted."""

from collections.abc import Callable, Coroutine
from typing import Any

import structlog
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from broker.api.problems import http_problem, internal_problem, problem_response, validation_error
from broker.errors import BrokerError

log = structlog.get_logger()


class ProblemRoute(APIRoute):
    """Answer domain errors and invalid requests with problems, without the app's exception handlers."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap FastAPI's handler."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except BrokerError as error:
                return problem_response(error)
            except RequestValidationError as error:
                return problem_response(validation_error(error))
            except HTTPException as error:
                return http_problem(error.status_code, error.detail)
            except Exception as error:
                log.exception("request failed", error=type(error).__name__)
                return internal_problem()

        return answer
