"""HTTP details of the client: tokens, documents, pauses, and the words for a failure."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import httpx

REST_SECONDS = 1.0
"""The pause before a retry that the answer asks for, if it names none."""
FIRST_REST_SECONDS = 1.0
LONGEST_REST_SECONDS = 30.0
MAX_FAILURES = 9
"""How often a form, or a request of a transfer, may fail in a row; with the pauses, for 2.5 minutes."""
RETRIED = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
"""The statuses after which every request is repeated."""
DIRECT = ("all://127.0.0.1", "all://localhost")
"""A proxy of the environment is not meant for this machine."""
Rest = Callable[[float], Awaitable[object]]
"""A function that pauses for some seconds, such as asyncio.sleep."""


def bare_token(token: str) -> str:
    """Return `token` without surrounding whitespace.

    Raises ValueError, which does not quote it, unless it is printable ASCII without spaces (RFC 6750, section 2.1).
    """
    bare = token.strip()
    if not bare or not bare.isascii() or not bare.isprintable() or " " in bare:
        raise ValueError("should be printable ASCII without spaces")
    return bare


def document_of(answer: httpx.Response) -> dict[str, Any]:
    """Return the JSON object of an answer; an empty one if it has none."""
    try:
        document = answer.json()
    except (ValueError, RecursionError):  # no JSON, or nested too deeply
        return {}
    return document if isinstance(document, dict) else {}


def reason_of(error: httpx.RequestError | httpx.InvalidURL) -> str:
    """Return the error's text, or only its class if the text may quote the header with the token."""
    return type(error).__name__ if isinstance(error, httpx.ProtocolError) else str(error) or type(error).__name__


def seconds_to_rest(answer: httpx.Response) -> float:
    """Return the seconds before a retry, by Retry-After (RFC 9110, section 10.2.3; only as seconds, not a date)."""
    seconds = answer.headers.get("Retry-After", "")
    return max(float(seconds), REST_SECONDS / 10) if seconds.isdecimal() else REST_SECONDS


def seconds_after(failures: int) -> float:
    """Return the seconds before the next try after so many failures in a row; they grow with each."""
    return min(FIRST_REST_SECONDS * 2.0 ** (failures - 1), LONGEST_REST_SECONDS)
