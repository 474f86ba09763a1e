"""Forms with a range of a file, streamed to S3, and what S3's answer means."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from enum import Enum, auto
from http import HTTPStatus
from xml.etree import ElementTree

import httpx

from broker.client.failures import FileRefused
from broker.client.wire import DIRECT

CHUNK = 256 * 1024
"""Bytes that are read from the file at a time, in a thread."""
REFRESHED = frozenset({"AccessDenied", "ExpiredToken", "RequestTimeTooSkewed"})
"""S3's codes for a form that has expired, among other reasons; a fresh one may be accepted."""
Progress = Callable[[int], object]


class Outcome(Enum):
    """The outcome of one post that did not fail for good."""

    STORED = auto()
    INTERRUPTED = auto()
    """No answer, or one that asks for a retry."""
    REFRESH = auto()
    """The form may have expired."""


class Forms:
    """Post forms to S3. This client sends no token, and S3 may take long to answer after the last byte."""

    def __init__(self, connections: int) -> None:
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._http = httpx.AsyncClient(timeout=httpx.Timeout(60, read=300), mounts=dict.fromkeys(DIRECT), limits=limits)

    async def post(
        self, url: str, fields: Mapping[str, str], descriptor: int, start: int, size: int, on_progress: Progress
    ) -> Outcome:
        """Post `size` bytes of an open file from `start`. Raises FileRefused. Progress is taken back on a failure."""
        boundary = uuid.uuid4().hex
        head = "".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        )
        head += f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n\r\n'
        first, last = head.encode(), f"\r\n--{boundary}--\r\n".encode()
        sent = 0

        async def body() -> AsyncIterator[bytes]:
            nonlocal sent
            yield first
            while sent < size:
                chunk = await asyncio.to_thread(os.pread, descriptor, min(CHUNK, size - sent), start + sent)
                if not chunk:
                    raise FileRefused("The file became shorter while it was sent.")
                sent += len(chunk)
                on_progress(len(chunk))
                yield chunk
            yield last

        headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(len(first) + size + len(last)),
        }
        outcome = Outcome.INTERRUPTED
        try:
            outcome = _outcome(await self._http.post(url, content=body(), headers=headers))
        except httpx.TransportError:
            pass
        finally:
            if outcome is not Outcome.STORED:
                on_progress(-sent)
        return outcome

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def _outcome(answer: httpx.Response) -> Outcome:
    if answer.is_success:
        return Outcome.STORED
    try:
        error = ElementTree.fromstring(answer.content)  # noqa: S314 - expat itself bounds entities
        code, message = error.findtext("Code") or "", error.findtext("Message") or ""
    except ElementTree.ParseError:
        code, message = str(answer.status_code), answer.reason_phrase
    if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR or code in {"RequestTimeout", "SlowDown"}:
        return Outcome.INTERRUPTED
    if code in REFRESHED:
        return Outcome.REFRESH
    raise FileRefused(f"S3 refused the upload: {code}: {message}")
