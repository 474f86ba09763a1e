"""The sweep: finish interrupted work, complete unannounced uploads, expire the rest, purge replays, periodically."""

import asyncio
from contextlib import suppress

import structlog

from broker.clock import Clock, utc_now
from broker.domain.media import Media
from broker.errors import BrokerError, DatabaseUnavailable, StorageUnavailable
from broker.lifecycle.leases import LEASE
from broker.lifecycle.settlement import Settlement
from broker.store import Store

BATCH = 50
"""The maximum number of media in one claim, so that memory stays bounded however many are due."""
CONCURRENCY = 16
MAX_REST_SECONDS = 300.0
"""The maximum pause while S3 or the database is unavailable; the pause doubles up to it."""

log = structlog.get_logger()


class Sweep:
    """Claim due media in batches and settle them. Several replicas share the work."""

    def __init__(
        self,
        store: Store,
        settlement: Settlement,
        *,
        rest_seconds: float,
        clock: Clock = utc_now,
    ) -> None:
        self._store = store
        self._settlement = settlement
        self._rest_seconds = rest_seconds
        self._clock = clock
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Sweep until `stop` is called, then finish the current batch."""
        rest = self._rest_seconds
        while not self._stopping.is_set():
            try:
                settled = await self.once()
            except (DatabaseUnavailable, StorageUnavailable) as error:
                rest = min(rest * 2, MAX_REST_SECONDS)
                log.warning("sweep pauses", reason=str(error), seconds=rest)
            except Exception:
                rest = min(rest * 2, MAX_REST_SECONDS)
                log.exception("sweep failed", seconds=rest)
            else:
                rest = 0.0 if settled > BATCH // 2 else self._rest_seconds
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), rest)
            rest = max(rest, self._rest_seconds)

    async def stop(self) -> None:
        """Let `run` end after the current batch."""
        self._stopping.set()

    async def once(self) -> int:
        """Claim one batch, settle it, and return the number of settled media.

        A media that could not be settled is due again when its claim expires. One that fails does not delay the others;
        StorageUnavailable or DatabaseUnavailable is raised if all of them failed with it.
        """
        now = self._clock()
        claimed = await self._store.claim_due(now, lease_until=now + LEASE, limit=BATCH)
        slots = asyncio.Semaphore(CONCURRENCY)
        results = await asyncio.gather(*(self._settle(media, slots) for media in claimed))
        failures = [result for result in results if result is not None]
        outages = [failure for failure in failures if isinstance(failure, StorageUnavailable | DatabaseUnavailable)]
        if outages and len(outages) == len(claimed):
            raise outages[0]
        if outages:
            log.warning("media wait for the next sweep", count=len(outages), reason=str(outages[0]))
        return len(claimed) - len(failures)

    async def _settle(self, media: Media, slots: asyncio.Semaphore) -> Exception | None:
        """Settle one media. Return its failure instead of raising it, so that the others go on."""
        async with slots:
            try:
                await self._settlement.settle(media)
            except (StorageUnavailable, DatabaseUnavailable) as error:
                return error
            except BrokerError as error:
                log.error("media could not be settled", media_id=str(media.id), reason=str(error))
                return error
            except Exception as error:
                log.exception("media could not be settled", media_id=str(media.id))
                return error
        return None
