"""The sweep: finish interrupted work, complete unannounced uploads, expire the rest, purge replays, periodically."""

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta

import structlog

from broker.clock import Clock, Stopwatch, monotonic, utc_now
from broker.domain.media import Media
from broker.errors import BrokerError, DatabaseUnavailable, StorageUnavailable
from broker.lifecycle.due import DueWork
from broker.lifecycle.leases import LEASE
from broker.lifecycle.settlement import Settlement
from broker.store import Store
from broker.worker.places import Places

BATCH = 128
"""The maximum number of media in one claim."""
CONCURRENCY = 512
"""The maximum number of media that are settled at a time, so that memory stays bounded however many are due."""
OUTAGES = 16
"""The sweep pauses after S3 or the database was unavailable for this number of media without a success between."""
MAX_REST_SECONDS = 300.0
"""The maximum pause while S3 or the database is unavailable; the pause doubles up to it."""
ROOM_SECONDS = 1.0
"""The pause of the sweep while this process has no room for more compositions; others may be due."""
STOP_SECONDS = 5.0
"""How long a stop waits for the media that are being settled. Later ones are settled again once their claim expires, as
after a crash."""

log = structlog.get_logger()


class Sweep:
    """Claim due media in batches and settle them, hundreds at a time. Several replicas share the work."""

    def __init__(
        self,
        store: Store,
        settlement: Settlement,
        *,
        rest_seconds: float,
        clock: Clock = utc_now,
        stopwatch: Stopwatch = monotonic,
    ) -> None:
        self._store = store
        self._settlement = settlement
        self._due = DueWork(store, settlement, clock)
        self._rest_seconds = rest_seconds
        self._pause_seconds = rest_seconds
        self._clock = clock
        self._stopwatch = stopwatch
        self._stopwatch_began_at = self._began_at()
        self._stopping = asyncio.Event()
        self._places = Places(CONCURRENCY)
        self._outages = 0
        """The number of outages since the last media that was settled."""
        self._last_one_failed = False
        """Whether the last media that ended could not be settled."""

    async def run(self) -> None:
        """Sweep until `stop` is called, then finish the current media within STOP_SECONDS.

        A media that takes long keeps its place, and delays no other one.
        """
        try:
            while not self._stopping.is_set():
                rest = await self._turn()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), rest)
        finally:
            if cancelled := await self._places.finish(STOP_SECONDS):
                log.warning("media are left to another sweep", count=cancelled)

    async def stop(self) -> None:
        """Let `run` end."""
        self._stopping.set()
        self._places.close()

    async def once(self) -> int:
        """Claim one batch, settle it, and return the number of settled media.

        A media that could not be settled is due again when its claim expires. One that fails does not delay the others;
        StorageUnavailable or DatabaseUnavailable is raised if all of them failed with it.
        """
        claimed = await self.claim(BATCH)
        failures = [failure for failure in await asyncio.gather(*map(self._settle, claimed)) if failure is not None]
        outages = [failure for failure in failures if isinstance(failure, StorageUnavailable | DatabaseUnavailable)]
        if outages and len(outages) == len(claimed):
            raise outages[0]
        return len(claimed) - len(failures)

    async def claim(self, limit: int) -> list[Media]:
        """Claim at most `limit` due media until the end of a lease. Raises DatabaseUnavailable."""
        now = self._clock()
        composes = self._settlement.composes_more()
        return await self._store.claim_due(now, lease_until=now + LEASE, limit=limit, composes=composes)

    async def _turn(self) -> float:
        """Begin to settle what is due, as far as there is room, and return the seconds until the next turn."""
        if self._outages >= OUTAGES:
            self._outages = 0
            return self._longer_pause("S3 or the database is unavailable")
        limit = await self._places.reserve(BATCH)
        claimed: list[Media] = []
        while self._has_jumped():
            await self._places.wait_until_empty(LEASE.total_seconds())
        try:
            claimed = await self.claim(limit)
        except DatabaseUnavailable as error:
            return self._longer_pause(str(error))
        except Exception as error:
            log.exception("sweep failed")
            return self._longer_pause(type(error).__name__)
        finally:
            for media in claimed:
                self._places.start(self._settle(media))
            self._places.release(limit - len(claimed))
        if not claimed:
            self._pause_seconds = self._rest_seconds
        if len(claimed) == limit and not self._last_one_failed:
            return 0.0  # more may be due; if S3 refuses them all, they would be tried again without end
        return self._rest_seconds if self._settlement.composes_more() else min(self._rest_seconds, ROOM_SECONDS)

    def _has_jumped(self) -> bool:
        """Return whether the wall clock has jumped since the last turn.

        By the new time, the claims of the media that are being settled may have expired. To claim them again would
        interrupt them, and so on after each jump, so they come first.
        """
        before, self._stopwatch_began_at = self._stopwatch_began_at, self._began_at()
        return abs(self._stopwatch_began_at - before) > LEASE / 2

    def _began_at(self) -> datetime:
        """Return when the stopwatch began, by the wall clock of this moment."""
        return self._clock() - timedelta(seconds=self._stopwatch())

    def _longer_pause(self, reason: str) -> float:
        self._pause_seconds = min(self._pause_seconds * 2, MAX_REST_SECONDS)
        log.warning("sweep pauses", reason=reason, seconds=self._pause_seconds)
        return self._pause_seconds

    async def _settle(self, media: Media) -> Exception | None:
        """Settle one media. Return its failure instead of raising it, so that the others go on."""
        try:
            await self._due.settle(media)
        except (StorageUnavailable, DatabaseUnavailable) as error:
            self._outages += 1
            log.info("media waits for another sweep", media_id=str(media.id), reason=str(error))
            return error
        except BrokerError as error:
            self._last_one_failed = True
            log.error("media could not be settled", media_id=str(media.id), reason=str(error))
            return error
        except Exception as error:
            self._last_one_failed = True
            log.exception("media could not be settled", media_id=str(media.id))
            return error
        self._outages = 0
        self._last_one_failed = False
        self._pause_seconds = self._rest_seconds
        return None
