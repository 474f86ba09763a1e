"""Requests to the broker: repeated while it asks for it, with its problems as errors."""

import inspect
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

import httpx

from broker.client.failures import BrokerProblem, ClientError, Unreachable
from broker.client.wire import (
    DIRECT,
    MAX_FAILURES,
    RETRIED,
    Rest,
    bare_token,
    document_of,
    reason_of,
    seconds_after,
    seconds_to_rest,
)

Token = str | Callable[[], str | Awaitable[str]]
"""A bearer token, or a function that returns the current one."""

UNANSWERED = 3
"""How often a request may fail without an answer in a row, before the broker has answered once; then MAX_FAILURES."""
PATIENCE_SECONDS = 120.0
"""For how many seconds of pauses a request is repeated while the broker asks for it."""
COMPOSING_SECONDS = 3600.0
"""How long a completion is repeated while the broker confirms the upload; it may compose thousands of parts."""
COMPOSING = "promotion-running"
RETRIED_PROBLEMS = frozenset({"idempotency-key-in-flight", COMPOSING})
MAX_PORT = 65535
INVALID = (httpx.InvalidURL, httpx.UnsupportedProtocol)


class Requests:
    """Send requests to one broker, whose routes are at `url`. `rest` pauses before a retry."""

    def __init__(self, url: str, token: Token, rest: Rest) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._rest = rest
        self._http = httpx.AsyncClient(timeout=60, mounts=dict.fromkeys(DIRECT))
        self._was_reached = False

    async def send(
        self,
        method: str,
        path: str,
        *,
        token: Token | None = None,
        retried: frozenset[str] = RETRIED_PROBLEMS,
        **request: Any,
    ) -> dict[str, Any]:
        """Return the answer's document. The request is repeated after temporary failures and the problems `retried`.

        Raises BrokerProblem, Unreachable, and ClientError for another server.
        """
        failures, rested = 0, 0.0
        composes_until: float | None = None
        headers = {**request.pop("headers", {})}
        while True:
            headers["Authorization"] = f"Bearer {await _current(token or self._token)}"
            try:
                answer = await self._http.request(method, _checked(self._url + path), headers=headers, **request)
            except (httpx.RequestError, httpx.InvalidURL) as error:
                failures += 1
                if failures > (MAX_FAILURES if self._was_reached else UNANSWERED) or self._is_wrong(error):
                    raise Unreachable(f"No broker answers at {self._url}: {reason_of(error)}") from None
                await self._rest(seconds_after(failures))
                continue
            self._was_reached = True
            document = document_of(answer)
            if answer.is_success and document.get("success") is True:
                return document
            failure = self._failure(answer, document)
            slug = failure.slug if isinstance(failure, BrokerProblem) else None
            if answer.status_code not in RETRIED and slug not in retried:
                raise failure
            seconds = seconds_to_rest(answer)
            if slug == COMPOSING:
                failures, rested = 0, 0.0  # the broker is at work: a later failure is the first in a row
                composes_until = composes_until or monotonic() + COMPOSING_SECONDS
                is_over = monotonic() > composes_until
            else:
                rested += seconds
                is_over = rested > PATIENCE_SECONDS
            if is_over:
                raise failure
            await self._rest(seconds)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def _is_wrong(self, error: Exception) -> bool:
        """Return whether the URL is probably wrong: it is invalid, or no server was ever there."""
        return isinstance(error, INVALID) or (isinstance(error, httpx.ConnectError) and not self._was_reached)

    def _failure(self, answer: httpx.Response, document: dict[str, Any]) -> ClientError:
        """Return the problem in an answer, or the failure of another server: of a load balancer, or of a wrong URL."""
        # A path without a route answers with a problem of no specific type.
        is_specific = document.get("type", "about:blank") != "about:blank" or answer.status_code in RETRIED
        if "detail" in document and is_specific:
            return problem_of(document | {"status": answer.status_code})
        if answer.status_code in RETRIED:
            return Unreachable(f"{self._url} answers with {answer.status_code}")
        return ClientError(
            f"{self._url} answers with {answer.status_code}, but it is not a broker; "
            "the URL needs the path of its routes, such as https://api.example/api/v1/s3-media"
        )


def problem_of(document: dict[str, Any]) -> BrokerProblem:
    """Return a problem document of the broker as an error."""
    status = document["status"]
    slug = str(document.get("type", "")).rpartition(":")[2]
    return BrokerProblem(status, slug, str(document.get("title", status)), document["detail"], document)


def _checked(url: str) -> httpx.URL:
    """Return a URL. Raises httpx.InvalidURL, also for a port that httpx accepts and no socket has."""
    checked = httpx.URL(url)
    if (checked.port or 0) > MAX_PORT:
        raise httpx.InvalidURL(f"Invalid port: {checked.port}")
    return checked


async def _current(token: Token) -> str:
    """Return the token. Raises ValueError, which does not quote it, unless a header can carry it."""
    value = token if isinstance(token, str) else token()
    text = await value if inspect.isawaitable(value) else value
    try:
        return bare_token(text)
    except ValueError as error:
        raise ValueError(f"the token {error}") from None
