"""The client for programs without asyncio: the same methods, which block."""

import asyncio
import os
from collections.abc import Coroutine, Iterable, Iterator
from types import TracebackType
from typing import Any, TypeVar, Unpack

from broker.client.answers import Issued, Media
from broker.client.asynchronous import AsyncClient
from broker.client.failures import BrokerProblem
from broker.client.options import IssueOptions, NewUpload, OnProgress, UploadOptions
from broker.client.requests import Token
from broker.client.wire import Rest

Result = TypeVar("Result")


class Client:
    """A client of one broker, as AsyncClient, for one thread at a time; its methods have the same arguments and errors.

    It runs an event loop of its own between calls. Raises RuntimeError in a thread whose event loop is running: use
    AsyncClient there.
    """

    def __init__(self, url: str, token: Token, *, connections: int = 4, rest: Rest = asyncio.sleep) -> None:
        self._runner = asyncio.Runner()
        self._client = AsyncClient(url, token, connections=connections, rest=rest)

    def issue(self, content_type: str, **options: Unpack[IssueOptions]) -> Issued:
        """Issue an upload, with `owner` on behalf of a user, and return the broker's answer for its client."""
        return self._run(self._client.issue(content_type, **options))

    def issue_many(
        self, uploads: Iterable[NewUpload], *, idempotency_key: str | None = None
    ) -> list[Issued | BrokerProblem]:
        """Issue up to 100 uploads in one request; return for each, in order, the answer or the problem."""
        return self._run(self._client.issue_many(uploads, idempotency_key=idempotency_key))

    def upload(self, file: str | os.PathLike[str], **options: Unpack[UploadOptions]) -> Media:
        """Upload a file and return the ready media."""
        return self._run(self._client.upload(file, **options))

    def resume(
        self,
        media_id: str,
        file: str | os.PathLike[str],
        *,
        upload_token: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> Media:
        """Send the missing parts of an upload that was issued as resumable, and return the ready media."""
        return self._run(self._client.resume(media_id, file, upload_token=upload_token, on_progress=on_progress))

    def complete(self, media_id: str, *, upload_token: str | None = None) -> Media:
        """Complete an upload and return the ready media."""
        return self._run(self._client.complete(media_id, upload_token=upload_token))

    def wait(self, media_id: str, *, seconds: float = 300) -> Media:
        """Return a media once it is ready."""
        return self._run(self._client.wait(media_id, seconds=seconds))

    def link(self, media_id: str, *, expires_in: int = 3600, download: bool = False) -> Media:
        """Return a ready media with a fresh link, for `expires_in` seconds."""
        return self._run(self._client.link(media_id, expires_in=expires_in, download=download))

    def media(self, *, status: str | None = None) -> Iterator[Media]:
        """Yield the caller's media, the newest first."""
        entries = self._client.media(status=status)

        async def following() -> Media | None:
            return await anext(entries, None)

        while (entry := self._run(following())) is not None:
            yield entry

    def delete(self, media_id: str) -> None:
        """Delete a media."""
        self._run(self._client.delete(media_id))

    def close(self) -> None:
        """Close the connections, and the event loop."""
        self._run(self._client.close())
        self._runner.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, call: Coroutine[Any, Any, Result]) -> Result:
        try:
            return self._runner.run(call)
        finally:
            call.close()
