"""The periodic job: finish what a crash left, complete what arrived unannounced, expire the rest, purge replays."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

import structlog

from broker.errors import BrokerError, DatabaseAway, StorageAway
from broker.media import Media
from broker.settlement import LEASE, Settlement, utc_now
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
        clock: Callable[[], datetime] = utc_now,
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
            except (DatabaseAway, StorageAway) as error:
                rest = min(rest * 2, MAX_REST_SECONDS)
                log.warning("sweep rests", reason=str(error), seconds=rest)
            else:
                rest = 0.0 if settled == BATCH else self._rest_seconds
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), rest)
            rest = max(rest, self._rest_seconds)

    async def stop(self) -> None:
        """Let `run` end after the batch that is under way."""
        self._stopping.set()

    async def once(self) -> int:
        """Claim one batch and settle it; return how many were claimed.

        Raises StorageAway when S3 was away for any of them: the claims run out, and they are due again.
        """
        now = self._clock()
        claimed = await self._store.claim_due(now, lease_until=now + LEASE, limit=BATCH)
        slots = asyncio.Semaphore(CONCURRENCY)
        ends = await asyncio.gather(*(self._settle(media, slots) for media in claimed), return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                raise end
        return len(claimed)

    async def _settle(self, media: Media, slots: asyncio.Semaphore) -> None:
        async with slots:
            try:
                await self._settlement.settle(media)
            except (StorageAway, DatabaseAway):
                raise
            except BrokerError as error:
                log.error("media could not be settled", media_id=str(media.id), reason=str(error))
