"""The work that is due for a media: what the sweep does once it has claimed one.

An unannounced upload is judged, an interrupted promotion is taken over, a media without upload expires, and the objects
that a media leaves behind are purged.
"""

from contextlib import suppress
from datetime import datetime, timedelta

from broker.clock import Clock
from broker.domain.keys import every_final_key, lost_keys
from broker.domain.media import Event, Media, State
from broker.errors import NothingUploaded, PromotionRunning
from broker.lifecycle.purging import MAX_KEYS
from broker.lifecycle.settlement import Settlement
from broker.store import Store

SLOWEST_UPLOAD = timedelta(days=1)
"""An upload that began in time is expected to arrive within this time after the end of its policy."""
MAX_CLOCK_DIFFERENCE = timedelta(hours=2)
"""How far the clocks of two replicas may differ: each of them is at most an hour ahead of S3's clock, or behind it."""


class DueWork:
    """Carry out the due work of single media, with one store and one settlement."""

    def __init__(self, store: Store, settlement: Settlement, clock: Clock) -> None:
        self._store = store
        self._settlement = settlement
        self._clock = clock
        self._grace = settlement.grace

    async def settle(self, media: Media) -> None:
        """Finish what is due for a media that the sweep has claimed. A long composition goes on by itself.

        Raises StorageUnavailable and the like; then the state is kept, and the claim expires.
        """
        with suppress(PromotionRunning):
            await self._settle(media)

    async def _settle(self, media: Media) -> None:
        match media.state:
            case State.PENDING:
                await self._settle_pending(media)
            case State.PROMOTING:
                await self._settle_pending(await self._settlement.take_lease(media))
            case State.READY:
                await self._purge_for_good(media, lost_keys(media), media.ready_at)
            case State.REJECTED | State.DELETED:
                await self._purge_for_good(media, every_final_key(media), media.ended_at)
            case State.DELETING:
                await self._finish_deleting(media)
            case State.EXPIRED:
                await self._look_a_last_time(media)

    async def _settle_pending(self, media: Media) -> None:
        """Judge until the media rests; a promotion of another lease holder rests, too."""
        while media.state is State.PENDING:
            try:
                media = await self._settlement.judge(media)
            except NothingUploaded:
                await self._expire(media)
                return

    async def _expire(self, media: Media) -> None:
        """Expire a media without upload, unless its policy was renewed meanwhile."""
        if self._settlement.policy_is_open(media):
            await self._store.amend(media, due_at=media.policy_expires_at + self._grace)
        elif self._clock() < media.accepts_until + self._grace:
            await self._store.amend(media, due_at=media.accepts_until + self._grace)
        else:
            await self._store.change(media, Event.EXPIRE, due_at=self._clock() + SLOWEST_UPLOAD)

    async def _look_a_last_time(self, media: Media) -> None:
        """Complete an upload that arrived late; without one, purge. SLOWEST_UPLOAD exceeds MAX_CLOCK_DIFFERENCE."""
        try:
            await self._settle_pending(await self._settlement.judge(media))
        except NothingUploaded:
            await self._purge_or_return(media, every_final_key(media), due_at=None)

    async def _purge_for_good(self, media: Media, final_keys: list[str], since: datetime | None) -> None:
        """Purge what is left of a media that rests `since` then; come back unless this was the last time."""
        again_at = self._purge_again_at(media, since or media.policy_expires_at)
        due_at = again_at if self._clock() < again_at else None
        await self._purge_or_return(media, final_keys, due_at=due_at, still_promised=False)

    async def _finish_deleting(self, media: Media) -> None:
        if self._settlement.policy_is_open(media):
            await self._purge_or_return(media, every_final_key(media), due_at=media.policy_expires_at + self._grace)
        elif await self._purge(media, every_final_key(media)):
            again_at = self._purge_again_at(media, self._clock())
            await self._store.change(media, Event.PURGE, due_at=again_at, still_promised=False)
        else:
            await self._store.amend(media, due_at=self._clock())

    async def _purge_or_return(self, media: Media, final_keys: list[str], **changes: object) -> None:
        """Purge one turn, then record `changes`; if objects are left, the media is due again behind all others."""
        nothing_left = await self._purge(media, final_keys)
        await self._store.amend(media, **(changes if nothing_left else {"due_at": self._clock()}))

    async def _purge(self, media: Media, final_keys: list[str]) -> bool:
        """Remove the staging object, then final ones, in one bounded turn; return whether nothing is left."""
        if not await self._settlement.purge_upload(media):
            return False
        for first in range(0, len(final_keys), MAX_KEYS):
            if not await self._settlement.purges.remove(*final_keys[first : first + MAX_KEYS]):
                return False
        return True

    def _purge_again_at(self, media: Media, now: datetime) -> datetime:
        """Return when nothing can bring an object back, even if the clock that read `now`, or the next, is wrong."""
        return self._settlement.first_purge_at(media, now) + MAX_CLOCK_DIFFERENCE
