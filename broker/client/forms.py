"""Forms with a range of a file, streamed to S3, and what S3's answer means."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from time import monotonic
from typing import Any
from xml.etree import ElementTree

import httpx

from broker.client.failures import FileChanged, FileRefused
from broker.client.wire import DIRECT

CHUNK = 256 * 1024
"""Bytes that are read from the file at a time, in a thread."""
SPARE_SECONDS = 30.0
"""A form that expires sooner is replaced before it is used."""
OnSent = Callable[[int], object]


class Outcome(Enum):
    """The outcome of one post that did not fail for good."""

    STORED = auto()
    INTERRUPTED = auto()
    """No answer that can be read, or one that asks for a retry."""
    EXPIRED = auto()
    """The policy has expired; a fresh form may be accepted."""


@dataclass(frozen=True, slots=True)
class Form:
    """The form for `size` bytes of the file from `start`, and when it expires by the monotonic clock."""

    url: str
    fields: Mapping[str, str]
    number: int
    """The number of the part; 1 for a whole file."""
    start: int
    size: int
    expires_at: float

    @classmethod
    def of(
        cls, url: str, fields: Mapping[str, str], number: int, start: int, size: int, *, expires_in: float
    ) -> "Form":
        """Return a form that the broker issued just now for `expires_in` seconds."""
        return cls(url, fields, number, start, size, monotonic() + expires_in - min(SPARE_SECONDS, expires_in / 2))

    @property
    def has_expired(self) -> bool:
        """Return whether a fresh form is needed."""
        return monotonic() >= self.expires_at


class Forms:
    """Post forms to S3, at most `connections` at a time; callers hold one of `places` for each.

    This client sends no token, and S3 may take long to answer after the last byte.
    """

    def __init__(self, connections: int) -> None:
        self.connections = connections
        self.places = asyncio.Semaphore(connections)
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._http = httpx.AsyncClient(timeout=httpx.Timeout(60, read=300), mounts=dict.fromkeys(DIRECT), limits=limits)

    async def post(self, form: Form, descriptor: int, on_progress: OnSent) -> Outcome:
        """Post the form with its range of an open file. `on_progress` gets the bytes sent, negative if in vain.

        Raises FileRefused if no retry would help, FileChanged, OSError, and what `on_progress` raises.
        """
        boundary = uuid.uuid4().hex
        head = "".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in form.fields.items()
        )
        head += f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n\r\n'
        first, last = head.encode(), f"\r\n--{boundary}--\r\n".encode()
        sent = 0

        async def body() -> AsyncIterator[bytes]:
            nonlocal sent
            yield first
            while sent < form.size:
                wanted = min(CHUNK, form.size - sent)
                chunk = await asyncio.to_thread(os.pread, descriptor, wanted, form.start + sent)
                if not chunk:
                    raise FileChanged
                sent += len(chunk)
                on_progress(len(chunk))
                yield chunk
            yield last

        headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(len(first) + form.size + len(last)),
        }
        try:
            outcome = _outcome(await self._http.post(form.url, content=body(), headers=headers))
        except httpx.RequestError:
            outcome = Outcome.INTERRUPTED
        if outcome is not Outcome.STORED:
            on_progress(-sent)
        return outcome

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def _outcome(answer: httpx.Response) -> Outcome:
    if answer.is_success:
        return Outcome.STORED
    code, message = _error(answer)
    is_busy = answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR
    if is_busy or answer.status_code == HTTPStatus.TOO_MANY_REQUESTS or code in {"RequestTimeout", "SlowDown"}:
        return Outcome.INTERRUPTED
    if code == "ExpiredToken" or (code == "AccessDenied" and "expired" in message.lower()):
        return Outcome.EXPIRED
    raise FileRefused(": ".join(filter(None, ["S3 refused the upload", code, message])))


def _error(answer: httpx.Response) -> tuple[str, str]:
    """Return S3's error code and message, or the status and its phrase if the answer is not XML."""
    try:
        error: Any = ElementTree.fromstring(answer.content)  # noqa: S314 - expat itself bounds entities
    except ElementTree.ParseError:
        return str(answer.status_code), answer.reason_phrase
    return error.findtext("Code") or str(answer.status_code), error.findtext("Message") or ""
