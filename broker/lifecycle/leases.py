"""The lease of a promotion: its end, and when another caller may take over.

The end is recorded as `due_at`, by the wall clock of the replica that took the lease. Wall clocks jump, and those of
two replicas may differ by hours. So a lease also counts as expired once this process has watched the row unchanged for
the duration of a lease, by its monotonic clock. To take over too early harms no object, because each attempt to promote
has a final key of its own. It costs the copy under way: replicas whose clocks differ by more than about two minutes may
take over from each other again and again, so that an object whose copy takes long does not become ready.
"""

import asyncio
from collections import OrderedDict
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Self
from uuid import UUID

from broker.clock import Clock, Stopwatch
from broker.domain.media import Media
from broker.errors import DatabaseUnavailable
from broker.store import Store

LEASE = timedelta(seconds=120)
"""The duration of a lease. Once it expires, another caller may take over."""
RENEW_SECONDS = LEASE.total_seconds() / 4
"""The interval at which the holder of a lease renews it during a long copy or composition."""
MAX_WATCHED = 10_000


class LeaseLost(Exception):
    """Another change of the row came first, so that the lease is no longer this caller's."""


class Leases:
    """Take leases, and watch those of other callers."""

    def __init__(self, clock: Clock, stopwatch: Stopwatch) -> None:
        self._clock = clock
        self._stopwatch = stopwatch
        self._watched: OrderedDict[UUID, tuple[int, float]] = OrderedDict()

    def end(self) -> datetime:
        """Return the end of a lease that is taken now."""
        return self._clock() + LEASE

    def ended(self) -> datetime:
        """Return the end of a lease that its holder gives up now."""
        return self._clock()

    def renewed(self, store: Store, media: Media) -> "HeldLease":
        """Return the lease on `media`, which the caller has taken, as a context in which it is renewed."""
        return HeldLease(store, self, media)

    def has_expired(self, media: Media) -> bool:
        """Return whether the lease on a media has expired, as far as this process can tell."""
        if media.due_at is None or media.due_at <= self._clock():
            return True
        now = self._stopwatch()
        version, since = self._watched.get(media.id, (None, now))
        if version != media.version:
            self._watched[media.id] = (media.version, now)
            self._watched.move_to_end(media.id)
            if len(self._watched) > MAX_WATCHED:
                self._watched.popitem(last=False)
            return False
        return now - since >= LEASE.total_seconds()


class HeldLease:
    """A lease that its holder renews, with the row as the holder last wrote it.

    As a context, it is renewed until the body ends. If the body fails, it ends at once, so that others go on.
    """

    def __init__(self, store: Store, leases: Leases, media: Media) -> None:
        self.media = media
        self._store = store
        self._leases = leases
        self._lost = False
        self._writing = asyncio.Lock()
        self._renewing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        # Nearly every copy ends before its first renewal, so it begins no task.
        self._timer = asyncio.get_running_loop().call_later(RENEW_SECONDS, self._begin_to_renew)
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        await self._stop()
        if error is not None and not isinstance(error, LeaseLost):
            with suppress(DatabaseUnavailable):
                await self._store.amend(self.media, due_at=self._leases.ended())

    def held(self) -> Media:
        """Return the row. Raises LeaseLost once the lease is known to be lost."""
        if self._lost:
            raise LeaseLost
        return self.media

    async def record(self, **changes: Any) -> None:
        """Change fields of the row, and renew the lease with it. Raises LeaseLost."""
        async with self._writing:
            changed = await self._store.amend(self.held(), due_at=self._leases.end(), **changes)
            if changed is None:
                self._lost = True
                raise LeaseLost
            self.media = changed

    def _begin_to_renew(self) -> None:
        self._renewing = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        """Renew the lease every RENEW_SECONDS, until it is lost."""
        with suppress(LeaseLost):
            while True:
                with suppress(DatabaseUnavailable):  # the last renewal holds for a while
                    await self.record()
                await asyncio.sleep(RENEW_SECONDS)

    async def _stop(self) -> None:
        """End the renewals, but none halfway: `media` must be the row as it was last written."""
        self._timer.cancel()
        if self._renewing is not None:
            try:
                async with self._writing:
                    pass
            finally:
                self._renewing.cancel()
