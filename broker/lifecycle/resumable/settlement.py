"""The settlement of a resumable media: judge the list of its parts, compose them, and purge what is left.

A composition may take longer than a caller waits. So it runs as a task of its own, which renews its lease; the caller
gets PromotionRunning after a while and asks again. A process that stops cancels its compositions and ends their leases,
so that another one continues them.

A process admits a bounded number of compositions. Beyond it, it lists no parts and takes no lease, so that the sweep of
any replica with room can compose the media.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol
from uuid import UUID

import structlog

from broker import metrics
from broker.aws.bucket import Bucket
from broker.domain.keys import current_key, final_prefix, part_key, parts_prefix
from broker.domain.media import Arrived, Event, Media, State
from broker.domain.parts import as_ranges, composed_etag, list_digest
from broker.domain.rules import composed_differences
from broker.errors import BrokerError, NothingUploaded, PartsMissing, PromotionRunning
from broker.lifecycle.leases import HeldLease, LeaseLost, Leases
from broker.lifecycle.resumable.composition import Composer
from broker.store import Store

log = structlog.get_logger()

PATIENCE_SECONDS = 15.0
"""How long the caller that composes waits; proxies and load balancers time out after 30 to 60 seconds of silence."""
MAX_COMPOSITIONS = 8
"""The number of compositions that run at a time in one process."""
MAX_ADMITTED = 32
"""The number of compositions that run in one process or wait for their turn there."""
MAX_LISTS = 16
"""The number of uploads whose parts are listed at a time in one process; a list takes up to 2 MB."""
MAX_NAMED = 100
"""The number of missing parts that a problem names."""
MAX_REMEMBERED = 10_000
"""The number of media of which a process remembers a missing part."""

Record = Callable[..., Awaitable[object]]
"""Change fields of a row within its state."""
TakeLease = Callable[[], Awaitable[Media | None]]
"""Record a lease on a media and return it as it then is, or None if another change came first."""


class Verdicts(Protocol):
    """The changes of state that end a composition, each with its purges."""

    async def reject(self, media: Media, event: Event, reason: str, **facts: object) -> Media:
        """Reject a media, with the reason in words."""

    async def judge_again(self, media: Media) -> Media:
        """Go back to judge what was overwritten, a bounded number of times."""

    async def become_ready(self, media: Media, **facts: object) -> Media:
        """Record that the object under the final key is the judged one."""

    async def lost(self, media: Media) -> Media:
        """Return the row as another caller left it."""

    async def inspect(self, media: Media, key: str, arrived: Arrived, record: Record) -> tuple[str, dict[str, object]]:
        """Probe an object. Return the reason to reject it (empty if none) and the media's fields to record."""


@dataclass(slots=True)
class _Ending:
    """The end of one composition, as `broker_composition_outcomes_total` counts it; empty if it did not begin."""

    outcome: str = ""


class Resumable:
    """Judge and compose the parts of resumable media, with one store and one bucket."""

    def __init__(self, store: Store, bucket: Bucket, leases: Leases, verdicts: Verdicts) -> None:
        self._store = store
        self._bucket = bucket
        self._leases = leases
        self._verdicts = verdicts
        self._composer = Composer(bucket)
        self._turns = asyncio.Semaphore(MAX_COMPOSITIONS)
        self._lists = asyncio.Semaphore(MAX_LISTS)
        self._running: set[asyncio.Task[Media]] = set()
        self._awaited: set[asyncio.Task[Media]] = set()
        """Those whose caller waits; an unexpected failure reaches its log."""
        self._last_missing: OrderedDict[UUID, int] = OrderedDict()

    async def close(self) -> None:
        """Cancel the compositions, and end their leases."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def has_room(self) -> bool:
        """Return whether the sweep should bring compositions: only if a turn of it finds several places."""
        return len(self._running) < MAX_ADMITTED // 2

    async def judge(self, media: Media, arrived: int | None) -> Media:
        """Compare the stored parts with the promise, record the verdict, and compose or reject.

        `arrived` is the part whose arrival is the reason to look. Raises PartsMissing and PromotionRunning. An expired
        media is composed if its parts match, and counts as without upload otherwise.
        """
        layout = media.layout
        await self._check_last_missing(media, arrived)
        async with self._lists:
            await self._require_room(media)
            listed = await self._bucket.multipart.staged(parts_prefix(media.id))
        staged = [part for part in listed if part.number <= layout.count]
        reason = layout.differences(staged)
        if reason and media.state is State.EXPIRED:
            raise NothingUploaded
        if reason:
            return await self._verdicts.reject(media, Event.DIFFER, reason)
        if missing := layout.missing(staged):
            self._remember(media, missing[-1])
            raise _missing(missing, layout.count)
        self._last_missing.pop(media.id, None)
        match = partial(
            self._store.change,
            media,
            Event.MATCH,
            size=layout.size,
            etag=composed_etag([part.etag for part in staged]),
            etag_is_md5=False,
            parts_digest=list_digest(staged),
            multipart_id=None,
            judgements=media.judgements + 1,
            attempt=media.attempt + 1,
            due_at=self._leases.end(),
        )
        return await self.promote(media, match, staged)

    async def promote(self, media: Media, take: TakeLease, staged: list[Any] | None = None) -> Media:
        """Take a lease and compose the judged parts. Raises PromotionRunning after a while, or if there is no room."""
        await self._require_room(media)
        ending = _Ending()
        task = asyncio.create_task(self._compose(media, take, staged, ending))
        self._running.add(task)
        task.add_done_callback(partial(self._ended, ending))
        self._awaited.add(task)
        try:
            done, _ = await asyncio.wait({task}, timeout=PATIENCE_SECONDS)
        finally:
            self._awaited.discard(task)
        if not done:
            raise PromotionRunning
        return task.result()

    async def purge(self, media: Media) -> bool:
        """Abort the unfinished multipart uploads of a media, then remove its parts; return whether nothing is left.

        The caller removes the final objects afterwards, when no multipart upload can make another one.
        """
        aborted = await self._bucket.multipart.abort_all(final_prefix(media.id))
        return await self._bucket.deletion.purge_below(parts_prefix(media.id), part_key(media.id, 1)) and aborted

    async def _require_room(self, media: Media) -> None:
        """Raise PromotionRunning if no composition may begin. The media is then due, in the order of its policy's end.

        An expired media keeps its due date, because its last look must not come early.
        """
        if len(self._running) < MAX_ADMITTED:
            return
        if media.state is not State.EXPIRED:
            await self._store.amend(media, due_at=min(media.policy_expires_at, self._leases.ended()))
        raise PromotionRunning

    async def _check_last_missing(self, media: Media, arrived: int | None) -> None:
        """Raise PartsMissing if another part than `arrived` was missing before, and still is.

        S3 sends an event for each part. One HEAD answers nearly all of them, where a list of all parts would cost up to
        ten requests, each of twelve times the price.
        """
        number = self._last_missing.get(media.id)
        if arrived is None or number is None or number == arrived:
            return
        if await self._bucket.head(part_key(media.id, number)) is None:
            raise _missing([number], media.layout.count)

    def _remember(self, media: Media, number: int) -> None:
        self._last_missing[media.id] = number
        self._last_missing.move_to_end(media.id)
        if len(self._last_missing) > MAX_REMEMBERED:
            self._last_missing.popitem(last=False)

    def _ended(self, ending: _Ending, task: "asyncio.Task[Media]") -> None:
        self._running.discard(task)
        if task.cancelled():
            return
        if ending.outcome:
            metrics.COMPOSITION_OUTCOMES.labels(ending.outcome).inc()
        if (error := task.exception()) is None:
            return
        if isinstance(error, BrokerError):
            log.warning("composition failed", reason=str(error))
        elif task not in self._awaited:
            log.error("composition failed", exc_info=error)

    async def _compose(self, media: Media, take: TakeLease, staged: list[Any] | None, ending: _Ending) -> Media:
        leased = await take()
        if leased is None:
            return await self._store.get(media.id, None)
        ending.outcome = "failed"
        try:
            async with self._leases.renewed(self._store, leased) as lease:
                async with self._turns:
                    with metrics.COMPOSITIONS.track_inprogress(), metrics.COMPOSITION_SECONDS.time():
                        composed = await self._composer.compose(lease, staged)
                reason, facts = ("", {}) if composed is None else await self._check(lease, composed)
        except LeaseLost:
            ending.outcome = "lost"
            return await self._verdicts.lost(lease.media)
        if composed is None:
            ending.outcome = "overwritten"  # a failure from here on is that of the next composition
            return await self._verdicts.judge_again(lease.media)
        facts |= {"etag": composed.etag, "etag_is_md5": composed.etag_is_md5, "checksum": composed.checksum}
        if reason:
            ended = await self._verdicts.reject(lease.media, Event.DIFFER, reason, **facts)
        else:
            ended = await self._verdicts.become_ready(lease.media, **facts)
        ending.outcome = "composed"
        return ended

    async def _check(self, lease: HeldLease, composed: Arrived) -> tuple[str, dict[str, object]]:
        media = lease.held()
        if reason := composed_differences(media, composed):
            return reason, {}
        return await self._verdicts.inspect(media, current_key(media), composed, lease.record)


def _missing(numbers: list[int], count: int) -> PartsMissing:
    return PartsMissing(
        missing=numbers[:MAX_NAMED], missing_count=len(numbers), count=count, numbers=as_ranges(numbers)
    )
