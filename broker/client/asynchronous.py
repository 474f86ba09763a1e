"""The client for asyncio."""

import asyncio
import mimetypes
import os
import uuid
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Unpack

from broker.client.answers import Issued, Media
from broker.client.failures import BrokerProblem, FileRefused
from broker.client.forms import Forms, Progress
from broker.client.options import IssueOptions, UploadOptions
from broker.client.requests import Requests, Token
from broker.client.sending import Sending
from broker.domain.video_types import type_of_file

RESUMABLE_OVER = 32 * 1024**2
"""Larger files go in parts, as by the browser helper."""
MAX_WAIT_SECONDS = 25
"""How long one request waits at the broker for a media to settle."""
SETTLING = frozenset({"pending", "promoting"})


class AsyncClient:
    """A client of one broker, whose routes are at `url`, prefix included. Leave its context to close its connections.

    `token` is a bearer token, or a function (also a coroutine function) that returns the current one. At most
    `connections` transfers to S3 run at a time.
    """

    def __init__(self, url: str, token: Token, *, connections: int = 4) -> None:
        self._requests = Requests(url, token)
        self._forms = Forms(connections)
        self._connections = connections

    async def issue(self, content_type: str, **options: Unpack[IssueOptions]) -> Issued:
        """Issue an upload, with `owner` on behalf of a user, and return the broker's answer for its client.

        Raises BrokerProblem and Unreachable.
        """
        key = options.pop("idempotency_key", None) or str(uuid.uuid4())
        return await self._issue(key, {"content_type": content_type, **options})

    async def upload(self, file: str | os.PathLike[str], **options: Unpack[UploadOptions]) -> Media:
        """Upload a file and return the ready media.

        A file of more than `resumable_over` bytes goes in parts, several at a time: a repeated call with the same
        `idempotency_key` sends only those that are missing, also in another process.
        Raises BrokerProblem, FileRefused, Unreachable and OSError.
        """
        path = Path(file)
        content_type = options.pop("content_type", None) or _type_of(path.name)
        on_progress = options.pop("on_progress", None)
        over = options.pop("resumable_over", RESUMABLE_OVER)
        key = options.pop("idempotency_key", None) or str(uuid.uuid4())
        descriptor = await asyncio.to_thread(os.open, path, os.O_RDONLY)
        try:
            size = os.fstat(descriptor).st_size
            body: dict[str, Any] = {"content_type": content_type, "size": size, "filename": path.name, **options}
            if size > over:
                body["resumable"] = True
            issued = await self._issue(key, body)
            sending = Sending(
                self._requests,
                self._forms,
                token=issued.upload_token,
                descriptor=descriptor,
                size=size,
                connections=self._connections,
                on_progress=_total(on_progress, size),
            )
            if size > over:
                await sending.missing_parts(issued.media_id)
            else:
                await sending.whole(issued, partial(self._issue, key, body))
        finally:
            os.close(descriptor)
        return await self.complete(issued.media_id, upload_token=issued.upload_token)

    async def complete(self, media_id: str, *, upload_token: str | None = None) -> Media:
        """Complete an upload and return the ready media; wait while the broker composes it. Raises BrokerProblem."""
        return Media.of(await self._requests.send("POST", f"/{media_id}/complete", token=upload_token))

    async def wait(self, media_id: str, *, seconds: float = 300) -> Media:
        """Return a media once it is ready. Raises BrokerProblem if it is rejected or expired, or TimeoutError."""
        ends = monotonic() + seconds
        while True:
            left = max(0, min(MAX_WAIT_SECONDS, int(ends - monotonic())))
            try:
                return Media.of(await self._requests.send("GET", f"/{media_id}", params={"wait": left}))
            except BrokerProblem as problem:
                if problem.facts.get("media_status") not in SETTLING:
                    raise
                if monotonic() + 1 >= ends:
                    raise TimeoutError(f"media {media_id} is still {problem.facts['media_status']}") from None
                await asyncio.sleep(1)

    async def link(self, media_id: str, *, expires_in: int = 3600, download: bool = False) -> Media:
        """Return a ready media with a fresh link, for `expires_in` seconds. Raises BrokerProblem."""
        query = {"expires_in": expires_in, "download": str(download).lower()}
        return Media.of(await self._requests.send("GET", f"/{media_id}", params=query))

    async def media(self, *, status: str | None = None) -> AsyncIterator[Media]:
        """Yield the caller's media, the newest first."""
        query: dict[str, str | int] = {"limit": 100} | ({"status": status} if status else {})
        while True:
            page = await self._requests.send("GET", "/", params=query)
            for document in page["media"]:
                yield Media.of(document)
            if page["next_cursor"] is None:
                return
            query["cursor"] = page["next_cursor"]

    async def delete(self, media_id: str) -> None:
        """Delete a media. Raises BrokerProblem; one that is not there is a problem, too."""
        await self._requests.send("DELETE", f"/{media_id}")

    async def _issue(self, key: str, body: dict[str, Any]) -> Issued:
        headers = {"Idempotency-Key": key}
        return Issued.of(await self._requests.send("POST", "/upload", json=body, headers=headers))

    async def close(self) -> None:
        """Close the connections."""
        await self._requests.close()
        await self._forms.close()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _type_of(name: str) -> str:
    kind = type_of_file(name) or mimetypes.types_map.get(Path(name).suffix.lower())
    if kind is None:
        raise FileRefused(f"content_type should be given, because the name {name!r} has no known extension")
    return kind


def _total(on_progress: Callable[[int, int], object] | None, size: int) -> Progress:
    """Return a function that adds up what was sent, and reports it."""
    loaded = 0

    def progressed(count: int) -> None:
        nonlocal loaded
        loaded += count
        if on_progress is not None:
            on_progress(loaded, size)

    return progressed
