"""The periodic job: finish what a crash left, complete what arrived unannounced, expire the rest, purge replays."""

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
"""How many media one claim takes; memory stays bounded however many are due."""
CONCURRENCY = 16
MAX_REST_SECONDS = 300.0
"""The longest rest while S3 or the database is away; it doubles from the ordinary rest up to here."""

log = structlog.get_logger()


class Sweep:
    """Claim what is due, in batches, and settle it; many replicas share the work."""

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
        """Sweep until `stop` is called; what is under way then is finished."""
        rest = self._rest_seconds
        while not self._stopping.is_set():
            try:
                settled = await self.once()
            except (DatabaseUnavailable, StorageUnavailable) as error:
                rest = min(rest * 2, MAX_REST_SECONDS)
                log.warning("sweep rests", reason=str(error), seconds=rest)
            except Exception:
                rest = min(rest * 2, MAX_REST_SECONDS)
                log.exception("sweep failed", seconds=rest)
            else:
                rest = 0.0 if settled > BATCH // 2 else self._rest_seconds
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), rest)
            rest = max(rest, self._rest_seconds)

    async def stop(self) -> None:
        """Let `run` end after the batch that is under way."""
        self._stopping.set()

    async def once(self) -> int:
        """Claim one batch and settle it; return how many were settled.

        A media that could not be settled is due again when its claim expires. Raises StorageUnavailable or
        DatabaseUnavailable if that ended all of them; one that S3 fails on does not hold up the others.
        """
        now = self._clock()
        claimed = await self._store.claim_due(now, lease_until=now + LEASE, limit=BATCH)
        slots = asyncio.Semaphore(CONCURRENCY)
        ends = await asyncio.gather(*(self._settle(media, slots) for media in claimed))
        failures = [end for end in ends if end is not None]
        away = [failure for failure in failures if isinstance(failure, StorageUnavailable | DatabaseUnavailable)]
        if away and len(away) == len(claimed):
            raise away[0]
        if away:
            log.warning("media wait for the next sweep", count=len(away), reason=str(away[0]))
        return len(claimed) - len(failures)

    async def _settle(self, media: Media, slots: asyncio.Semaphore) -> Exception | None:
        """Settle one media; return what went wrong, so that its neighbours do not suffer from it."""
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
