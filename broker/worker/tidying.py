"""The removal of records: of finished media after their retention, and of owners that are erased."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta

import structlog

from broker.clock import Clock, utc_now
from broker.domain.media import State
from broker.errors import DatabaseUnavailable
from broker.lifecycle.erasure import Erasure
from broker.store import Store

BATCH = 500
"""The maximum number of records that one transaction removes."""
MAX_BATCHES = 200
"""The maximum number of batches of one turn, so that erasures have theirs."""

log = structlog.get_logger()


class Tidying:
    """Remove records in batches. Several replicas share the work."""

    def __init__(
        self,
        store: Store,
        erasure: Erasure,
        *,
        keep: Mapping[State, timedelta],
        rest_seconds: float,
        clock: Clock = utc_now,
    ) -> None:
        """Keep the records of each state in `keep` for its time after that state began, all others for ever."""
        self._store = store
        self._erasure = erasure
        self._keep = keep
        self._rest_seconds = rest_seconds
        self._clock = clock
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Remove what is due until `stop` is called, then finish the current batch."""
        while not self._stopping.is_set():
            has_more = False
            try:
                has_more = await self.once()
            except DatabaseUnavailable as error:
                log.warning("tidying pauses", reason=str(error), seconds=self._rest_seconds)
            except Exception:
                log.exception("tidying failed")
            if not has_more:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), self._rest_seconds)

    async def stop(self) -> None:
        """Let `run` end after the current batch."""
        self._stopping.set()

    async def once(self) -> bool:
        """Take one bounded turn, and return whether more is due. Raises DatabaseUnavailable."""
        has_more = await self._erasure.once() > 0
        for state, kept_for in self._keep.items():
            now = self._clock()
            for _ in range(MAX_BATCHES):
                if self._stopping.is_set():
                    return False
                dated = await self._store.removal.date_ended(state, limit=BATCH)
                removed = await self._store.removal.remove_ended(state, now, before=now - kept_for, limit=BATCH)
                if max(dated, removed) < BATCH:
                    break
            else:
                has_more = True
        return has_more
