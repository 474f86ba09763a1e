"""A bucket, its multipart uploads and a store of one row, in memory."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from broker.aws.bucket import Bucket
from broker.aws.multipart import Copied, Multipart
from broker.domain.media import Arrived, Media, State
from broker.domain.parts import StoredPart, composed_etag, list_digest
from broker.store import Store
from tests.support.samples import pending

PART = 5


def etag(number: int) -> str:
    return f"{number:032x}"


def parts(count: int) -> list[StoredPart]:
    return [StoredPart(number, PART, etag(number)) for number in range(1, count + 1)]


def promoting(count: int = 3, **fields: Any) -> Media:
    """Return a media whose parts were judged, at its first attempt."""
    judged: dict[str, Any] = {
        "state": State.PROMOTING,
        "part_size": PART,
        "promised_size": count * PART,
        "parts_digest": list_digest(parts(count)),
        "etag": composed_etag([part.etag for part in parts(count)]),
        "attempt": 1,
    }
    return pending(**(judged | fields))


class Rows(Store):
    """A store of one row; `is_ours` is false once another caller changed the row."""

    def __init__(self, calls: list[tuple[Any, ...]]) -> None:
        self.calls = calls
        self.is_ours = True

    async def amend(self, media: Media, **changes: Any) -> Media | None:
        recorded = {name: value for name, value in changes.items() if name != "due_at"}
        self.calls.append(("record", recorded))
        return media._replace(version=media.version + 1, **changes) if self.is_ours else None


class Uploads(Multipart):
    """Multipart uploads in memory. A test replaces what an operation does."""

    def __init__(self, calls: list[tuple[Any, ...]], objects: dict[str, Arrived]) -> None:
        self.calls, self.objects = calls, objects
        self.stored = parts(3)
        self.copied_already: dict[int, str] | None = {}
        self.on_copy: Callable[[int], Copied] = lambda number: Copied(etag(number), comparable=True)
        self.on_complete: Callable[[], None] = lambda: None
        self.composed: Arrived | None = None
        self.under_way = self.most_under_way = 0
        self.let_go = asyncio.Event()
        self.let_go.set()

    async def staged(self, prefix: str, *, after: str = "", limit: int | None = None) -> list[StoredPart]:
        self.calls.append(("staged", prefix))
        return self.stored

    async def create(self, key: str, content_type: str) -> str:
        self.calls.append(("create", key, content_type))
        return "new-id"

    async def copied(self, key: str, upload_id: str) -> dict[int, str] | None:
        self.calls.append(("copied", key, upload_id))
        return self.copied_already

    async def copy(self, key: str, upload_id: str, number: int, source: str, etag: str) -> Copied:
        self.calls.append(("copy", key, upload_id, number, source, etag))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await self.let_go.wait()
            await asyncio.sleep(0)
            return self.on_copy(number)
        finally:
            self.under_way -= 1

    async def complete(self, key: str, upload_id: str, etags: list[str]) -> None:
        self.calls.append(("complete", key, upload_id, *etags))
        self.on_complete()
        if self.composed is not None:
            self.objects[key] = self.composed

    async def abort(self, key: str, upload_id: str) -> None:
        self.calls.append(("abort", key, upload_id))


class Memory(Bucket):
    """A bucket in memory that notes each call."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.objects: dict[str, Arrived] = {}
        self.uploads = Uploads(self.calls, self.objects)
        self.multipart = self.uploads

    async def head(self, key: str) -> Arrived | None:
        self.calls.append(("head", key))
        return self.objects.get(key)

    def names(self) -> list[str]:
        """Return the names of the calls so far."""
        return [name for name, *_ in self.calls]


def composed(media: Media, **fields: Any) -> Arrived:
    """Return the object that S3 makes of the judged parts."""
    tags = [etag(number) for number in range(1, media.layout.count + 1)]
    whole = Arrived(size=media.layout.size, etag=composed_etag(tags), content_type="video/mp4", checksum="CRC64NVME:A=")
    return replace(whole, **fields)
