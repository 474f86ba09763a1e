"""Requests to the broker: repeated if it is unreachable or asks for it, with its problems as errors."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import httpx

from broker.cli.uploading.failure import BrokerSilent, UploadFailed

TRIES = 4
"""How often an unanswered request is sent in all."""
REST_SECONDS = 1.0
"""The pause before a retry, if the response names none."""
PATIENCE_SECONDS = 120.0
"""How long a request is retried if the broker keeps asking for it."""
COMPOSING_SECONDS = 3600.0
"""How long a completion is retried while the broker confirms the upload: it may compose thousands of parts."""
RETRIED = frozenset(
    {
        HTTPStatus.CONFLICT,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
PARTS_MISSING = "parts-missing"
PROMOTION_RUNNING = "promotion-running"
# A proxy of the environment is not meant for this machine.
DIRECT: dict[str, httpx.BaseTransport | None] = {"all://127.0.0.1": None, "all://localhost": None}


class BrokerClient:
    """Send requests to one broker. `url` is that of its routes, prefix included.

    Raises ValueError for a token that no header can carry. It may be used by several threads.
    """

    def __init__(self, url: str, token: str, *, rest: Callable[[float], object]) -> None:
        self.url = url.rstrip("/")
        self._rest = rest
        bearer = {"Authorization": f"Bearer {bare_token(token)}"}
        self._http = httpx.Client(headers=bearer, timeout=30, mounts=DIRECT)

    def request(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        """Send a request and return the answer's document; retry if the answer asks for it. Raises UploadFailed."""
        unanswered, patience = 0, PATIENCE_SECONDS
        composing = COMPOSING_SECONDS
        while True:
            try:
                answer = self._http.request(method, self.url + path, **request)
            except (httpx.TransportError, httpx.InvalidURL) as error:
                unanswered += 1
                if unanswered == TRIES or isinstance(
                    error, httpx.ConnectError | httpx.InvalidURL | httpx.UnsupportedProtocol
                ):
                    raise BrokerSilent(f"No broker answers at {self.url}: {_reason(error)}") from None
                self._rest(REST_SECONDS)
                continue
            seconds, problem = _retry_after(answer), _problem(answer)
            if problem == PROMOTION_RUNNING and composing > 0:
                composing -= seconds
            elif answer.status_code not in RETRIED or problem == PARTS_MISSING or patience < seconds:
                return self._accepted(answer)
            else:
                patience -= seconds
            self._rest(seconds)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _accepted(self, answer: httpx.Response) -> dict[str, Any]:
        document = _document(answer)
        if answer.is_success and "media_id" in document:
            return document
        # A path without a route answers with a problem of no specific type.
        if "detail" not in document or document.get("type", "about:blank") == "about:blank":
            raise UploadFailed(
                f"{self.url} answers with {answer.status_code}, but it is not a broker; "
                "the URL needs the path of its routes, such as http://127.0.0.1:8000/api/v1/s3-media"
            )
        raise UploadFailed(f"{document.get('title', answer.status_code)}: {document['detail']}", _problem(answer))


def bare_token(token: str) -> str:
    """Return `token` without surrounding whitespace.

    Raises ValueError, which does not quote it, unless it is printable ASCII without spaces (RFC 6750, section 2.1).
    """
    bare = token.strip()
    if not bare or not bare.isascii() or not bare.isprintable() or " " in bare:
        raise ValueError("should be printable ASCII without spaces")
    return bare


def _document(answer: httpx.Response) -> dict[str, Any]:
    try:
        document = answer.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _problem(answer: httpx.Response) -> str:
    return "" if answer.is_success else str(_document(answer).get("type", "")).rpartition(":")[2]


def _reason(error: httpx.TransportError | httpx.InvalidURL) -> str:
    """Return the error's text, or only its class if the text may quote the header with the token."""
    return type(error).__name__ if isinstance(error, httpx.ProtocolError) else str(error) or type(error).__name__


def _retry_after(answer: httpx.Response) -> float:
    """Return the seconds before a retry, by Retry-After (RFC 9110, section 10.2.3; only as seconds, not a date)."""
    seconds = answer.headers.get("Retry-After", "")
    return max(float(seconds), REST_SECONDS / 10) if seconds.isdecimal() else REST_SECONDS
