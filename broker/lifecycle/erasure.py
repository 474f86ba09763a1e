"""The erasure of an owner: every media with its objects and its record, its webhooks, and its usage.

Media that the owner issued on behalf of others stay, and no longer name it.
The intent is recorded first. Each turn is bounded: it deletes some media as their owner would, and removes the records
of those whose objects are gone. The sweep removes the objects in between; the record of a media stays until its last
purge, about two hours after its policy has ended.
"""

import asyncio
from datetime import timedelta
from typing import NamedTuple

import structlog

from broker.clock import Clock, utc_now
from broker.domain.media import Event, Media
from broker.lifecycle.settlement import Settlement
from broker.store import Store

log = structlog.get_logger()

TURN = 500
"""The number of media that one turn deletes, and the number of records that it removes."""
OWNERS = 20
"""The number of owners whose turn comes at a time."""
LOOK_AGAIN = timedelta(minutes=1)
"""How soon an erasure has its next turn if it waits for the sweep, or if the process that took its turn died."""


class ErasureProgress(NamedTuple):
    """The progress of an erasure: how many media name the owner, as owner or issuer, and whether it is finished."""

    media_left: int
    finished: bool


class Erasure:
    """Erase owners, a turn at a time. Several replicas share the work."""

    def __init__(self, store: Store, settlement: Settlement, *, clock: Clock = utc_now) -> None:
        self._store = store
        self._settlement = settlement
        self._clock = clock

    async def request(self, owner: str) -> ErasureProgress:
        """Record that `owner` is to be erased, take a first turn, and return what is left.

        Media that the owner is issued before the erasure ends are erased too. To request it again does no harm.
        """
        await self._store.removal.record_erasure(owner, self._clock())
        finished = await self._take_turn(owner)
        owned, issued = await asyncio.gather(
            self._store.removal.count_of(owner), self._store.removal.count_issued(owner)
        )
        return ErasureProgress(owned + issued, finished)

    async def once(self) -> int:
        """Take the turns that are due, and return their number. Raises DatabaseUnavailable."""
        now = self._clock()
        owners = await self._store.removal.claim_erasures(now, next_at=now + LOOK_AGAIN, limit=OWNERS)
        for owner in owners:
            await self._take_turn(owner)
        return len(owners)

    async def _take_turn(self, owner: str) -> bool:
        """Take one turn, and return whether the owner is erased."""
        now = self._clock()
        media = await self._store.list(owner, state=None, limit=TURN, before=None)
        await asyncio.gather(*map(self._delete, media))
        removed = await self._store.removal.remove_erased(owner, now, limit=TURN)
        forgotten = await self._store.removal.forget_issuer(owner, limit=TURN)
        if await self._store.removal.finish_erasure(owner):
            log.info("an owner is erased")
            return True
        if TURN in {len(media), removed, forgotten}:
            await self._store.removal.record_erasure(owner, now)
        return False

    async def _delete(self, media: Media) -> None:
        """Delete a media, for the sweep to purge it at once; a change that came first leaves it to another turn."""
        await self._store.change(
            media,
            Event.DELETE,
            due_at=self._clock(),
            still_promised=self._settlement.policy_is_open(media),
        )
