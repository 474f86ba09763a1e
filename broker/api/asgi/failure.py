"""An unexpected failure of a route: the client gets a problem, and the code around the route gets the exception.

Starlette's own error middleware works the same way: it answers, and then raises the exception for error trackers and
the server.
"""

from fastapi import Request, Response
from starlette.types import Receive, Scope, Send

HANDLES_ALL = 500
"""The key, besides Exception, under which an application registers a handler of every exception."""


class FailedResponse(Response):
    """Send the problem, then raise the exception that it stands for."""

    def __init__(self, problem: Response, error: Exception) -> None:
        super().__init__()
        self.status_code = problem.status_code
        self.body = problem.body
        self.raw_headers = problem.raw_headers
        self._error = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response. Raises the exception."""
        await super().__call__(scope, receive, send)
        raise self._error


def is_handled_by_host(request: Request, error: Exception) -> bool:
    """Return whether the application has an exception handler for this error; it then answers as it does elsewhere."""
    handlers = request.app.exception_handlers
    return HANDLES_ALL in handlers or any(kind in handlers for kind in type(error).__mro__)
