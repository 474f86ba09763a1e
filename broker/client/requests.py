"""Requests to the broker: repeated while it asks for it, with its problems as errors."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from time import monotonic
from typing import Any

import httpx

from broker.client.failures import BrokerProblem, ClientError, Unreachable

Token = str | Callable[[], str | Awaitable[str]]
"""A bearer token, or a function that returns the current one."""

UNANSWERED_TRIES = 4
"""How often an unanswered request is sent in all. Every request of this client can be repeated."""
REST_SECONDS = 1.0
"""The pause before a retry, if the answer names none."""
PATIENCE_SECONDS = 120.0
"""How long a request is repeated while the broker asks for it."""
COMPOSING_SECONDS = 3600.0
"""How long a completion is repeated while the broker confirms the upload; it may compose thousands of parts."""
RETRIED = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
RETRIED_PROBLEMS = frozenset({"idempotency-key-in-flight", "promotion-running"})
# A proxy of the environment is not meant for this machine.
DIRECT: dict[str, httpx.AsyncBaseTransport | None] = {"all://127.0.0.1": None, "all://localhost": None}


class Requests:
    """Send requests to one broker, whose routes are at `url`."""

    def __init__(self, url: str, token: Token, *, timeout: float = 60) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._http = httpx.AsyncClient(timeout=timeout, mounts=DIRECT)

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
                    raise Unreachable(f"No broker answers at {self._url}: {_reason(error)}") from None
                await asyncio.sleep(REST_SECONDS)
                continue
            document = _document(answer)
            if answer.is_success and document.get("success") is True:
                return document
            problem = self._problem(answer, document)
            seconds = _retry_after(answer)
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
    """Return the token. Raises ValueError, which does not quote it, unless a header can carry it (RFC 6750, 2.1)."""
    value = token if isinstance(token, str) else token()
    text = (await value if inspect.isawaitable(value) else value).strip()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("the token should be printable ASCII without spaces")
    return text


def _document(answer: httpx.Response) -> dict[str, Any]:
    try:
        document = answer.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _reason(error: httpx.TransportError | httpx.InvalidURL) -> str:
    """Return the error's text, or only its class if the text may quote the header with the token."""
    return type(error).__name__ if isinstance(error, httpx.ProtocolError) else str(error) or type(error).__name__


def _retry_after(answer: httpx.Response) -> float:
    """Return the seconds before a retry, by Retry-After (RFC 9110, section 10.2.3; only as seconds, not a date)."""
    seconds = answer.headers.get("Retry-After", "")
    return max(float(seconds), REST_SECONDS / 10) if seconds.isdecimal() else REST_SECONDS
