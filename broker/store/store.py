"""The one store of media and usage, over SQLite and PostgreSQL."""

import asyncio
import builtins
import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from broker import metrics
from broker.clock import Clock, utc_now
from broker.domain.access.quota import Quota, Usage
from broker.domain.announcement import announcements
from broker.domain.media import ENDED, Event, Media, State, next_state
from broker.errors import DatabaseUnavailable
from broker.store import reads, writes
from broker.store.batching.batcher import Batcher, Operation
from broker.store.connections.address import parse_url
from broker.store.connections.deadlines import Deadlines
from broker.store.connections.engine import (
    UNAVAILABLE,
    is_deadlock,
    is_unmigrated,
    may_be_repeated,
    reading_engine,
    writing_engine,
)
from broker.store.outbox import Outbox
from broker.store.removal import Removal
from broker.store.rows import CHANGEABLE

logger = logging.getLogger(__name__)

MAX_BATCH = 256
DEADLOCK_REST_SECONDS = 0.1
"""The pause before a deadlock's loser retries; without it, it would take the lock again before the winner wakes up."""


class Store:
    """Record media and the usage of their owners; each write is durable when its method returns.

    Each method raises DatabaseUnavailable if the database cannot be reached, does not answer within the timeout, or was
    not migrated. A write that fails so may or may not have happened. Once the database is back, no restart is needed.
    """

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 5,
        timeout_seconds: float = 5.0,
        schema: str | None = None,
        announce_to: tuple[str, ...] = (),
        clock: Clock = utc_now,
    ) -> None:
        """Prepare for the database at `url`; the first operation connects.

        One connection of `pool_size` writes, the others read. `timeout_seconds` bounds each wait: for a
        connection, a lock, a statement, and a place in a batch. The tables are in `schema`, or else where PostgreSQL
        looks first. Changes are announced to the targets in `announce_to`, with the time of `clock`.
        """
        self._announce_to = announce_to
        self._clock = clock
        parsed = parse_url(url)
        readers = max(1, pool_size - 1)
        self._writing = writing_engine(parsed, timeout_seconds=timeout_seconds, schema=schema)
        self._reading = reading_engine(parsed, timeout_seconds=timeout_seconds, pool_size=readers, schema=schema)
        # A batch may hold several statements, of which each may take the time-out; so a thread may take twice as long.
        self._deadlines = Deadlines(2 * timeout_seconds)
        for engine in (self._writing, self._reading):
            self._deadlines.watch(engine)
        self._writes = Batcher("writer", self._write, limit=MAX_BATCH, threads=1, patience_seconds=timeout_seconds)
        self._reads = Batcher("reader", self._read, limit=MAX_BATCH, threads=readers, patience_seconds=timeout_seconds)
        self.outbox = Outbox(self._writes, self._reads)
        self.removal = Removal(self._writes, self._reads)

    async def add(self, media: Media, quota: Quota) -> Media:
        """Record `media` and reserve its usage. Raises QuotaExceeded, with the numbers, if that exceeds a limit.

        If the owner has used its idempotency key before, record nothing and return the earlier media.
        """
        return await self._writes.submit(writes.Add(media, quota))

    async def get(self, media_id: UUID, owner: str | None) -> Media:
        """Return the media in any state. Raises MediaNotFound if it is not `owner`'s; None stands for every owner."""
        return await self._reads.submit(reads.Get(media_id, owner))

    async def find_issued(self, owner: str, *, own_key: str, issuers_key: str) -> Media | None:
        """Return the media that `owner` issued with `own_key`, or that was issued with `issuers_key` on behalf."""
        return await self._reads.submit(reads.FindIssued(owner, own_key, issuers_key))

    async def change(self, media: Media, event: Event, **changes: Any) -> Media | None:
        """Move `media` along `event`, with `changes` to its fields. Return None if another change came first.

        The announcements are written in the same transaction. Raises IllegalTransition, and nothing happens, if the
        table of transitions has no such row.
        """
        changed = await self._replace(media, next_state(media.state, event), changes)
        if changed is not None:
            metrics.TRANSITIONS.labels(event.name.lower()).inc()
        return changed

    async def amend(self, media: Media, **changes: Any) -> Media | None:
        """Change fields of `media` within its state; return None if another change came first."""
        return await self._replace(media, media.state, changes)

    async def list(
        self, owner: str | None, *, state: State | None, limit: int, before: UUID | None
    ) -> builtins.list[Media]:
        """Return at most `limit` media of the owner, or of all owners, older than `before`, the newest first.

        Media that are deleting or deleted are never listed.
        """
        return await self._reads.submit(reads.ReadPage(owner, state, limit, before))

    async def claim_due(
        self, now: datetime, *, lease_until: datetime, limit: int, composes: bool = True
    ) -> builtins.list[Media]:
        """Claim at most `limit` due media, the longest overdue first, and return them as they now are.

        No other caller claims them before `lease_until`; the sweep finishes or amends them until then. Unless the
        caller `composes`, media that may have to be composed are left to others, or to a later claim.
        """
        return await self._writes.submit(writes.Claim(now, lease_until, limit, composes))

    async def usage(self, owner: str) -> Usage:
        """Return the usage of `owner`."""
        return await self._reads.submit(reads.ReadUsage(owner))

    async def backlog(self) -> reads.Backlog:
        """Return the number of pending media and how far the sweep is behind."""
        return await self._reads.submit(reads.ReadBacklog())

    async def ping(self) -> None:
        """Return once the database has answered and has the tables."""
        await self._reads.submit(reads.Ping())

    async def close(self) -> None:
        """Finish the submitted operations, then close all connections; no operation is accepted afterwards."""
        for batcher in (self._writes, self._reads):
            await batcher.close()
        self._deadlines.close()
        for engine in (self._writing, self._reading):
            await asyncio.to_thread(engine.dispose)

    async def _replace(self, media: Media, state: State, changes: dict[str, Any]) -> Media | None:
        if fixed := changes.keys() - CHANGEABLE:
            raise ValueError(f"{', '.join(sorted(fixed))} cannot be changed")
        moved = state is not media.state
        if moved:
            changes["ended_at"] = self._clock() if state in ENDED else None
        change = writes.Change(media, {"state": state, "version": media.version + 1, **changes})
        if moved and self._announce_to:
            change.announced = announcements(change.after, self._announce_to, self._clock())
        return await self._writes.submit(change)

    def _write(self, operations: Sequence[Operation[Any]]) -> Sequence[object]:
        return _guarded(self._transact, operations)

    def _read(self, operations: Sequence[Operation[Any]]) -> Sequence[object]:
        return _guarded(self._answer_reads, operations)

    def _transact(self, operations: Sequence[Operation[Any]]) -> Sequence[object]:
        with self._deadlines.limit(), self._writing.connect() as connection:
            outcomes = writes.apply(connection, operations)
            try:
                connection.commit()
            except UNAVAILABLE as error:
                # The commit may have happened, so the store must not repeat it.
                raise DatabaseUnavailable from error
            metrics.COMMIT_BATCH.observe(len(operations))
            return outcomes

    def _answer_reads(self, operations: Sequence[Operation[Any]]) -> Sequence[object]:
        with self._deadlines.limit(), self._reading.connect() as connection:
            return reads.answer(connection, operations)


def _guarded(
    run: Callable[[Sequence[Operation[Any]]], Sequence[object]],
    operations: Sequence[Operation[Any]],
    *,
    again: bool = True,
) -> Sequence[object]:
    """Run a batch. If one operation fails it, run each alone, so that only that one fails."""
    try:
        return run(operations)
    except (DatabaseUnavailable, *UNAVAILABLE) as error:
        if again and may_be_repeated(error):
            if is_deadlock(error):
                time.sleep(DEADLOCK_REST_SECONDS)
            return _guarded(run, operations, again=False)
        logger.warning("the database is unavailable: %s", _unavailable(error).reason)
        return [DatabaseUnavailable() for _ in operations]
    except Exception as error:
        if len(operations) == 1:
            if is_unmigrated(error):
                logger.warning("the database lacks a migration: %s", _unavailable(error).reason)
                return [DatabaseUnavailable()]
            return [error]
        return [outcome for operation in operations for outcome in _guarded(run, [operation])]


def _unavailable(error: Exception) -> DatabaseUnavailable:
    """Return the error whose reason may be logged: the driver's own text may hold a part of the password."""
    if isinstance(error, DatabaseUnavailable):
        return error
    unavailable = DatabaseUnavailable()
    unavailable.__cause__ = error
    return unavailable
