"""The composition of the judged parts into one object, under the final key of an attempt.

S3 copies the parts, several at a time, into a multipart upload. Each copy names the judged ETag as a condition, and its
answer is compared with it where the store makes ETags comparable. The id of the multipart upload is recorded before
the first copy. A caller that takes over continues it: parts that are copied already are not copied again. A multipart
upload that is gone is replaced by another attempt, unless it has become the object that the judged parts make. A store
whose ETags do not show that composes once more after a crash between completion and record.
"""

import asyncio
from collections.abc import Iterator
from typing import NamedTuple

from broker.aws.bucket import Bucket
from broker.aws.client import Absent, PreconditionFailed
from broker.domain.keys import current_key, part_key, parts_prefix
from broker.domain.media import Arrived, Media
from broker.domain.parts import StoredPart, list_digest
from broker.errors import StorageRefused
from broker.lifecycle.leases import HeldLease, LeaseLost

COPIES = 8
"""The number of parts that one composition copies at a time."""
MAX_COPIES = 16
"""The number of parts that all compositions of one process copy at a time, so that other calls to S3 find a place."""


class Overwritten(Exception):
    """A part is no longer the one that was judged."""


class _Copies(NamedTuple):
    """The ETags of the copied parts, in order, and whether each is the judged one, so that they prove the object."""

    etags: list[str]
    proven: bool


class Composer:
    """Compose the parts of resumable uploads in one bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._multipart = bucket.multipart
        self._turns = asyncio.Semaphore(MAX_COPIES)

    async def compose(self, lease: HeldLease, staged: list[StoredPart] | None) -> Arrived | None:
        """Compose the judged parts and return the object, or None if the parts are no longer the judged ones.

        `staged` is the judged list, if the caller has it. Raises LeaseLost, StorageUnavailable and StorageRefused.
        """
        copied = await self._continued(lease)
        if copied is None:
            if (composed := await self._composed(lease.media, proven=True)) is not None:
                return composed
            await lease.record(attempt=lease.media.attempt + 1, multipart_id=None)
        try:
            if staged is None:
                staged = await self._listed(lease)
            return await self._complete(lease, await self._copy_all(lease, staged, copied or {}))
        except Overwritten:
            await lease.record()  # another lease holder may be about to complete it
            if lease.media.multipart_id is not None:
                await self._multipart.abort(current_key(lease.media), lease.media.multipart_id)
            return None

    async def _listed(self, lease: HeldLease) -> list[StoredPart]:
        """Return the parts if they are the judged ones. Raises Overwritten."""
        count = lease.media.layout.count
        staged = [part for part in await self._multipart.staged(parts_prefix(lease.media.id)) if part.number <= count]
        if list_digest(staged) != lease.media.parts_digest:
            raise Overwritten
        return staged

    async def _continued(self, lease: HeldLease) -> dict[int, str] | None:
        """Return the ETags of the parts that are copied already, or None if their multipart upload is gone."""
        if lease.media.multipart_id is None:
            return {}
        return await self._multipart.copied(current_key(lease.media), lease.media.multipart_id)

    async def _copy_all(self, lease: HeldLease, staged: list[StoredPart], copied: dict[int, str]) -> _Copies:
        if lease.media.multipart_id is None:
            key = current_key(lease.media)
            upload_id = await self._multipart.create(key, lease.media.content_type)
            try:
                await lease.record(multipart_id=upload_id)
            except LeaseLost:
                await self._multipart.abort(key, upload_id)
                raise
        etags = {part.number: part.etag for part in staged if copied.get(part.number) == part.etag}
        incomparable: set[int] = set()
        left = iter([part for part in staged if part.number not in etags])
        copies = [asyncio.create_task(self._copy(lease, left, etags, incomparable)) for _ in range(COPIES)]
        try:
            await asyncio.gather(*copies)
        finally:
            for copy in copies:
                copy.cancel()
            await asyncio.gather(*copies, return_exceptions=True)
        return _Copies([etags[part.number] for part in staged], proven=not incomparable)

    async def _copy(
        self, lease: HeldLease, left: Iterator[StoredPart], etags: dict[int, str], incomparable: set[int]
    ) -> None:
        """Copy one part after the other from `left`, which several tasks share."""
        for part in left:
            media, upload_id = lease.held(), lease.media.multipart_id or ""
            source = part_key(media.id, part.number)
            async with self._turns:
                try:
                    copied = await self._multipart.copy(current_key(media), upload_id, part.number, source, part.etag)
                except (Absent, PreconditionFailed):
                    raise Overwritten from None
            if not copied.comparable:
                incomparable.add(part.number)
            elif copied.etag != part.etag:
                raise Overwritten
            etags[part.number] = copied.etag

    async def _complete(self, lease: HeldLease, copies: _Copies) -> Arrived:
        """Complete the multipart upload, look at the object, and return it. Raises Overwritten.

        An answer that leaves the outcome open is no failure: the object decides.
        """
        media, upload_id = lease.held(), lease.media.multipart_id or ""
        try:
            await self._multipart.complete(current_key(media), upload_id, copies.etags)
        except (Absent, PreconditionFailed):
            pass
        except StorageRefused as error:
            if error.facts.get("code") != "InvalidPart":
                raise
            raise Overwritten from None
        composed = await self._composed(media, proven=copies.proven)
        if composed is None:
            raise Overwritten
        return composed

    async def _composed(self, media: Media, *, proven: bool) -> Arrived | None:
        """Return the object of this attempt, or None if there is none, or another than the judged parts make.

        Its ETag is compared if the copies have `proven` that the store makes the judged ones.
        """
        composed = await self._bucket.head(current_key(media))
        if composed is None or (composed.size, composed.content_type) != (media.promised_size, media.content_type):
            return None
        return None if proven and composed.etag_is_md5 and composed.etag != media.etag else composed
