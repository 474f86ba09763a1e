"""The client for asyncio."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Unpack

from broker.client.answers import Issued, Media
from broker.client.failures import BrokerProblem, FileRefused
from broker.client.forms import Forms
from broker.client.names import content_type_of, printable
from broker.client.options import IssueOptions, NewUpload, OnProgress, UploadOptions
from broker.client.requests import RETRIED_PROBLEMS, Requests, Token, problem_of
from broker.client.sending import LocalFile, Sending, opened
from broker.client.wire import Rest

RESUMABLE_OVER = 32 * 1024**2
"""Larger files go in parts, as by the browser helper."""
MAX_WAIT_SECONDS = 25
"""How long one request waits at the broker for a media to settle."""
SETTLING = frozenset({"pending", "promoting"})
ROUNDS = 3
"""How often a file is sent: S3 may lose one that it acknowledged, to a clean-up of the bucket."""
MISSING = frozenset({"nothing-uploaded", "parts-missing"})
"""The problems of a completion that the broker asks to repeat. If that does not help, the file is sent again."""


class AsyncClient:
    """A client of one broker, whose routes are at `url`, prefix included. Leave its context to close its connections.

    `token` is a bearer token, or a function (also a coroutine function) that returns the current one. At most
    `connections` transfers to S3 run at a time. `rest` pauses for some seconds before a retry.
    """

    def __init__(self, url: str, token: Token, *, connections: int = 4, rest: Rest = asyncio.sleep) -> None:
        self._rest = rest
        self._requests = Requests(url, token, rest)
        self._forms = Forms(connections)

    async def issue(self, content_type: str, **options: Unpack[IssueOptions]) -> Issued:
        """Issue an upload, with `owner` on behalf of a user, and return the broker's answer for its client.

        Raises BrokerProblem and Unreachable.
        """
        key = options.pop("idempotency_key", None) or str(uuid.uuid4())
        return await self._issue(key, {"content_type": content_type, **options})

    async def issue_many(
        self, uploads: Iterable[NewUpload], *, idempotency_key: str | None = None
    ) -> list[Issued | BrokerProblem]:
        """Issue up to 100 uploads in one request; return for each, in order, the answer or the problem.

        Repeating the key with the same uploads in the same order returns the same media.
        Raises BrokerProblem and Unreachable if the whole request fails.
        """
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        answer = await self._requests.send("POST", "/uploads", json={"uploads": list(uploads)}, headers=headers)
        return [Issued.of(outcome) if outcome["success"] else problem_of(outcome) for outcome in answer["uploads"]]

    async def upload(self, file: str | os.PathLike[str], **options: Unpack[UploadOptions]) -> Media:
        """Upload a file and return the ready media.

        A file of more than `resumable_over` bytes goes in parts, several at a time: a repeated call with the same
        `idempotency_key` sends only those that are missing, also in another process.
        Raises BrokerProblem, FileRefused, Unreachable, OSError, and what `on_progress` raises.
        """
        path = Path(file)
        content_type = options.pop("content_type", None) or content_type_of(path.name)
        if content_type is None:
            raise FileRefused(f"content_type should be given, because the name {path.name!r} has no known extension")
        on_progress = options.pop("on_progress", None)
        over = options.pop("resumable_over", RESUMABLE_OVER)
        key = options.pop("idempotency_key", None) or str(uuid.uuid4())
        with opened(path) as local:
            name = printable(path.name)
            body: dict[str, Any] = {"content_type": content_type, "size": local.size, "filename": name, **options}
            if local.size > over:
                body["resumable"] = True
            issued = await self._issue(key, body)
            if local.size > over:
                return await self._in_parts(local, issued, issued.upload_token, on_progress)
            sending = self._sending(local, issued.upload_token, on_progress)
            send = partial(sending.whole, issued, partial(self._issue, key, body))
            await send()
            return await self._completed(issued.media_id, issued.upload_token, send)

    async def resume(
        self,
        upload: str | Issued,
        file: str | os.PathLike[str],
        *,
        upload_token: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> Media:
        """Send the missing parts of an upload that was issued as resumable, and return the ready media.

        `upload` is its media id, or the answer of `issue`, whose forms save a request, and whose token is used.
        Raises what the method `upload` does, and FileChanged if the size of the file is not that of the upload.
        """
        if upload_token is None and not isinstance(upload, str):
            upload_token = upload.upload_token
        with opened(Path(file)) as local:
            return await self._in_parts(local, upload, upload_token, on_progress)

    async def complete(self, media_id: str, *, upload_token: str | None = None) -> Media:
        """Complete an upload and return the ready media; wait while the broker composes it. Raises BrokerProblem."""
        return await self._complete(media_id, upload_token)

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

    async def _issue(self, key: str, body: dict[str, Any]) -> Issued:
        headers = {"Idempotency-Key": key}
        return Issued.of(await self._requests.send("POST", "/upload", json=body, headers=headers))

    def _sending(self, file: LocalFile, upload_token: str | None, on_progress: OnProgress | None) -> Sending:
        return Sending(self._requests, self._forms, self._rest, file, token=upload_token, on_progress=on_progress)

    async def _in_parts(
        self,
        file: LocalFile,
        upload: str | Issued,
        upload_token: str | None,
        on_progress: OnProgress | None,
    ) -> Media:
        media_id, first_page = (upload, None) if isinstance(upload, str) else (upload.media_id, _first_page(upload))
        sending = self._sending(file, upload_token, on_progress)
        await sending.missing_parts(media_id, first_page)
        return await self._completed(media_id, upload_token, partial(sending.missing_parts, media_id))

    async def _completed(
        self, media_id: str, upload_token: str | None, send_missing: Callable[[], Awaitable[None]]
    ) -> Media:
        for _ in range(ROUNDS - 1):
            try:
                return await self._complete(media_id, upload_token, retried=RETRIED_PROBLEMS | MISSING)
            except BrokerProblem as problem:
                if problem.slug not in MISSING:
                    raise
            await send_missing()
        return await self._complete(media_id, upload_token, retried=RETRIED_PROBLEMS | MISSING)

    async def _complete(
        self, media_id: str, upload_token: str | None, *, retried: frozenset[str] = RETRIED_PROBLEMS
    ) -> Media:
        path = f"/{media_id}/complete"
        return Media.of(await self._requests.send("POST", path, token=upload_token, retried=retried))


def _first_page(issued: Issued) -> Mapping[str, Any] | None:
    """Return the issued forms of the first parts, or None if the answer has none.

    A request that is repeated after the completion gets none, and neither does an upload that is not resumable.
    """
    return issued.document if issued.document.get("parts") else None
