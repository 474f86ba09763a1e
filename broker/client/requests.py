"""Requests to the broker: repeated while it asks for it, with its problems as errors."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

import httpx

from broker.client.failures import BrokerProblem, ClientError, Unreachable
from broker.client.wire import (
    COMPOSING_SECONDS,
    DIRECT,
    PATIENCE_SECONDS,
    REST_SECONDS,
    RETRIED,
    bare_token,
    document_of,
    reason_of,
    seconds_to_rest,
)

Token = str | Callable[[], str | Awaitable[str]]
"""A bearer token, or a function that returns the current one."""

UNANSWERED_TRIES = 4
"""How often an unanswered request is sent in all. Every request of this client can be repeated."""
RETRIED_PROBLEMS = frozenset({"idempotency-key-in-flight", "promotion-running"})


class Requests:
    """Send requests to one broker, whose routes are at `url`."""

    def __init__(self, url: str, token: Token, *, timeout: float = 60) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._http = httpx.AsyncClient(timeout=timeout, mounts=dict.fromkeys(DIRECT))

    async def send(self, method: str, path: str, *, token: Token | None = None, **request: Any) -> dict[str, Any]:
        """Return the answer's document. Raises BrokerProblem, Unreachable, and ClientError for another server."""
        unanswered, began = 0, monotonic()
        headers = {**request.pop("headers", {})}
        while True:
            headers["Authorization"] = f"Bearer {await _current(token or self._token)}"
            try:
                answer = await self._http.request(method, self._url + path, headers=headers, **request)
            except (httpx.TransportError, httpx.InvalidURL) as error:
                unanswered += 1
                if unanswered == UNANSWERED_TRIES or isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
                    raise Unreachable(f"No broker answers at {self._url}: {reason_of(error)}") from None
                await asyncio.sleep(REST_SECONDS)
                continue
            document = document_of(answer)
            if answer.is_success and document.get("success") is True:
                return document
            problem = self._problem(answer, document)
            seconds = seconds_to_rest(answer)
            patience = COMPOSING_SECONDS if problem.slug == "promotion-running" else PATIENCE_SECONDS
            is_retried = answer.status_code in RETRIED or problem.slug in RETRIED_PROBLEMS
            if not is_retried or monotonic() - began + seconds > patience:
                raise problem
            await asyncio.sleep(seconds)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def _problem(self, answer: httpx.Response, document: dict[str, Any]) -> BrokerProblem:
        kind = str(document.get("type", "about:blank"))
        # A path without a route answers with a problem of no specific type.
        if "detail" not in document or (kind == "about:blank" and answer.status_code not in RETRIED):
            raise ClientError(
                f"{self._url} answers with {answer.status_code}, but it is not a broker; "
                "the URL needs the path of its routes, such as https://api.example/api/v1/s3-media"
            )
        title = str(document.get("title", answer.status_code))
        return BrokerProblem(answer.status_code, kind.rpartition(":")[2], title, document["detail"], document)


async def _current(token: Token) -> str:
    """Return the token. Raises ValueError, which does not quote it, unless a header can carry it."""
    value = token if isinstance(token, str) else token()
    text = await value if inspect.isawaitable(value) else value
    try:
        return bare_token(text)
    except ValueError as error:
        raise ValueError(f"the token {error}") from None
