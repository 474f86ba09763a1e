"""The settlement of a media: judge the upload, promote it, purge the rest.

A client's complete, S3's events and the sweep all come through here. The caller that promotes holds a lease, so that
one copy is made and a crash is taken over. Every change is a compare-and-set; the loser of a race re-reads the row and
decides again.

S3 may carry out a request long after its caller gave up. Each such effect is harmless:

- A copy writes to the final key of its own attempt, which was recorded before the copy and which no other attempt uses.
  It can never replace, or be mistaken for, the object of another attempt. It also needs the judged staging object.
- A purge of a final key names an attempt that did not become ready, and never will: either a later attempt exists, or
  the media is rejected or deleted. Only a deletion names the key that became ready.
- A purge of the staging key is sent once the media is ready, rejected, expired or deleted. No promotion reads the
  staging object of a ready, rejected or deleted media. If an upload arrives later than SLOWEST_UPLOAD and is purged
  between HEAD and copy, the copy fails and the media expires again.
- A copy that is carried out after the last purge finds no source. The last purge happens after the end of the policy
  and at least a lease after the last promotion, and it removes the staging object before the final ones. A replica
  whose clock is ahead purges too early, while a replay may still bring a source. So the last purge is the one that is
  due MAX_CLOCK_DIFFERENCE later; an earlier one only frees storage and quota sooner.
- A post is judged by S3 against the policy when it begins. One that ends after the last purge is removed by the
  bucket's lifecycle rule for the staging prefix.
- No multipart upload is made here, so there is none to abort.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from math import ceil

from broker import metrics
from broker.aws.bucket import Bucket
from broker.clock import Clock, Stopwatch, monotonic, utc_now
from broker.domain.keys import current_key, every_final_key, lost_keys, staging_key
from broker.domain.media import GONE, Arrived, Event, Media, State
from broker.domain.rules import differences, video_differences
from broker.errors import NothingUploaded, ProbeFailed, PromotionRunning, StorageRefused, StorageUnavailable
from broker.lifecycle.leases import LEASE, Leases
from broker.lifecycle.probe import Probe
from broker.lifecycle.purging import MAX_KEYS, Purges
from broker.store import Store

MAX_JUDGEMENTS = 3
"""An upload whose staging object is overwritten is judged this many times, then rejected."""
SLOWEST_UPLOAD = timedelta(days=1)
"""An upload that began in time is expected to arrive within this time after the end of its policy."""
MAX_CLOCK_DIFFERENCE = timedelta(hours=2)
"""How far the clocks of two replicas may differ: each of them is at most an hour ahead of S3's clock, or behind it."""
FINISHED = GONE | {State.REJECTED}
"""The states from which no media becomes ready."""
WAIT_SECONDS = 0.1
WAITS = 30
"""The number and the interval of a second caller's polls for the end of a running promotion."""


class Settlement:
    """Bring a media to a state in which it rests, with one store and one bucket."""

    def __init__(
        self,
        store: Store,
        bucket: Bucket,
        *,
        grace: timedelta,
        probe: Probe | None = None,
        max_video_seconds: int = 0,
        clock: Clock = utc_now,
        stopwatch: Stopwatch = monotonic,
    ) -> None:
        """Accept videos of at most `max_video_seconds`, if there is a `probe`; without one, content is not checked."""
        self.grace = grace
        self.leases = Leases(clock, stopwatch)
        self.purges = Purges(bucket)
        self._probe = probe
        self._max_video_seconds = max_video_seconds
        self._store = store
        self._bucket = bucket
        self._clock = clock

    async def close(self) -> None:
        """Finish the purges in the background."""
        await self.purges.finish()

    async def settle(self, media: Media) -> None:
        """Finish what is due for a media that the sweep has claimed.

        Raises StorageUnavailable and the like; then the state is kept, and the claim expires.
        """
        match media.state:
            case State.PENDING:
                await self._settle_pending(media)
            case State.PROMOTING:
                await self._settle_pending(await self._take_lease(media))
            case State.READY:
                await self._purge_lost(media)
            case State.REJECTED if media.still_promised:
                again_at = self._purge_again_at(media, self._clock())
                await self._purge_or_return(media, every_final_key(media), due_at=again_at, still_promised=False)
            case State.REJECTED | State.DELETED:
                await self._purge_or_return(media, every_final_key(media), due_at=None)
            case State.DELETING:
                await self._finish_deleting(media)
            case State.EXPIRED:
                await self._look_a_last_time(media)

    async def judge(self, media: Media) -> Media:
        """Compare the upload with the promise, record the verdict, and promote or reject.

        Returns the media as it then is; after a lost race that may be any state. Raises NothingUploaded and
        ProbeFailed. An expired media is promoted if its upload matches, and counts as without upload otherwise.
        """
        arrived = await self._bucket.head(staging_key(media.id))
        if arrived is None:
            raise NothingUploaded
        reason = differences(media, arrived)
        facts: dict[str, object] = {}
        if self._probe is not None and not reason:
            reason, facts = await self._inspect(self._probe, media, arrived)
        if reason and media.state is State.EXPIRED:
            raise NothingUploaded
        if reason:
            return await self._reject(media, Event.DIFFER, reason, **facts)
        judged = await self._store.change(
            media,
            Event.MATCH,
            size=arrived.size,
            etag=arrived.etag,
            etag_is_md5=arrived.etag_is_md5,
            checksum=arrived.checksum,
            judgements=media.judgements + 1,
            attempt=media.attempt + 1,
            due_at=self.leases.end(),
            **facts,
        )
        return await self._reread(media) if judged is None else await self._promote(judged)

    async def _inspect(self, probe: Probe, media: Media, arrived: Arrived) -> tuple[str, dict[str, object]]:
        """Probe the object. Return the reason to reject it (empty if none) and the media's fields to record.

        An object that cannot be probed in MAX_JUDGEMENTS attempts is rejected; before that, ProbeFailed is raised.
        """
        link = partial(self._bucket.internal_link, staging_key(media.id), expires_in=ceil(probe.timeout_seconds))
        try:
            video = await probe.inspect(link, arrived.etag)
        except ProbeFailed:
            if media.judgements + 1 >= MAX_JUDGEMENTS:
                return "it could not be inspected", {}
            await self._store.amend(media, judgements=media.judgements + 1)
            raise
        reason = video_differences(video, self._max_video_seconds)
        if video is None:
            return reason, {}
        return reason, {
            "measured_seconds": video.seconds,
            "codec": video.codec,
            "width": video.width,
            "height": video.height,
        }

    async def take_over(self, media: Media) -> Media:
        """Continue a promotion that another caller began: wait for its end, or for the end of its lease.

        Raises PromotionRunning if it takes longer than a caller should wait.
        """
        for _ in range(WAITS):
            if media.state is not State.PROMOTING:
                return media
            if self.leases.has_expired(media):
                return await self._take_lease(media)
            await asyncio.sleep(WAIT_SECONDS)
            media = await self._reread(media)
        raise PromotionRunning

    async def _take_lease(self, media: Media) -> Media:
        """Begin another attempt for a media whose lease has expired, unless another caller does."""
        leased = await self._store.amend(media, attempt=media.attempt + 1, due_at=self.leases.end())
        return await self._reread(media) if leased is None else await self._promote(leased)

    async def _promote(self, media: Media) -> Media:
        """Copy the judged object to the final key of this attempt; only the lease holder comes here."""
        if media.judged is None:
            raise AssertionError("a media is judged before it is promoted")
        async with self._release_lease_on_failure(media):
            with metrics.PROMOTION_SECONDS.time():
                promoted = await self._bucket.promote(staging_key(media.id), current_key(media), media.judged)
        if not promoted:
            return await self._judge_again(media)
        now = self._clock()
        ready = await self._store.change(media, Event.PROMOTE, ready_at=now, due_at=self._first_purge_at(media, now))
        if ready is None:
            return await self._lost_promotion(media)
        self.purges.add(staging_key(media.id))
        return ready

    async def _judge_again(self, media: Media) -> Media:
        """Go back to judge an overwritten staging object, a bounded number of times."""
        if media.judgements >= MAX_JUDGEMENTS:
            after = await self._reject(media, Event.GIVE_UP, "it was overwritten while it was being checked")
        else:
            again = await self._store.change(media, Event.OVERWRITE, due_at=media.policy_expires_at + self.grace)
            after = again or await self._reread(media)
        self.purges.add(current_key(media))
        return after

    async def _lost_promotion(self, media: Media) -> Media:
        """Return the row as another caller left it, and remove the copy of this attempt."""
        after = await self._reread(media)
        if after.state is not State.READY or after.attempt != media.attempt:
            self.purges.add(current_key(media))
        if after.state in FINISHED:
            self.purges.add(staging_key(media.id))
        return after

    @asynccontextmanager
    async def _release_lease_on_failure(self, media: Media) -> AsyncIterator[None]:
        """End the lease at once if its holder cannot go on, so that the next caller can."""
        try:
            yield
        except (StorageUnavailable, StorageRefused):
            await self._store.amend(media, due_at=self._clock())
            raise

    async def _reject(self, media: Media, event: Event, reason: str, **facts: object) -> Media:
        now = self._clock()
        is_open = self.policy_is_open(media)
        rejected = await self._store.change(
            media,
            event,
            differences=reason,
            due_at=self._first_purge_at(media, now) if is_open else self._purge_again_at(media, now),
            still_promised=is_open,
            **facts,
        )
        if rejected is None:
            return await self._reread(media)
        self.purges.add(staging_key(media.id))
        return rejected

    async def _settle_pending(self, media: Media) -> None:
        """Judge until the media rests; a promotion of another lease holder rests, too."""
        while media.state is State.PENDING:
            try:
                media = await self.judge(media)
            except NothingUploaded:
                await self._expire(media)
                return

    async def _expire(self, media: Media) -> None:
        """Expire a media without upload, unless its policy was renewed meanwhile."""
        if self.policy_is_open(media):
            await self._store.amend(media, due_at=media.policy_expires_at + self.grace)
        else:
            await self._store.change(media, Event.EXPIRE, due_at=self._clock() + SLOWEST_UPLOAD)

    async def _look_a_last_time(self, media: Media) -> None:
        """Complete an upload that arrived late; without one, purge. SLOWEST_UPLOAD exceeds MAX_CLOCK_DIFFERENCE."""
        try:
            await self._settle_pending(await self.judge(media))
        except NothingUploaded:
            await self._purge_or_return(media, every_final_key(media), due_at=None)

    async def _purge_lost(self, media: Media) -> None:
        """Purge what replays and earlier attempts left of a ready media; come back unless this was the last time."""
        again_at = self._purge_again_at(media, media.ready_at or media.policy_expires_at)
        await self._purge_or_return(media, lost_keys(media), due_at=again_at if self._clock() < again_at else None)

    async def _finish_deleting(self, media: Media) -> None:
        if self.policy_is_open(media):
            await self._purge_or_return(media, every_final_key(media), due_at=media.policy_expires_at + self.grace)
        elif await self._purge(media, every_final_key(media)):
            again_at = self._purge_again_at(media, self._clock())
            await self._store.change(media, Event.PURGE, due_at=again_at, still_promised=False)
        else:
            await self._store.amend(media, due_at=self._clock())

    async def remove(self, media: Media) -> None:
        """Remove the objects of a media that is being deleted, as far as one turn does."""
        await self._bucket.purge(*[staging_key(media.id), *every_final_key(media)][:MAX_KEYS])

    async def _purge_or_return(self, media: Media, final_keys: list[str], **changes: object) -> None:
        """Purge one turn, then record `changes`; if objects are left, the media is due again behind all others."""
        nothing_left = await self._purge(media, final_keys)
        await self._store.amend(media, **(changes if nothing_left else {"due_at": self._clock()}))

    async def _purge(self, media: Media, final_keys: list[str]) -> bool:
        """Remove the staging object, then final ones, in one bounded turn; return whether nothing is left."""
        if not await self.purges.remove(staging_key(media.id)):
            return False
        for first in range(0, len(final_keys), MAX_KEYS):
            if not await self.purges.remove(*final_keys[first : first + MAX_KEYS]):
                return False
        return True

    async def _reread(self, media: Media) -> Media:
        return await self._store.get(media.id, None)

    def policy_is_open(self, media: Media) -> bool:
        """Return whether a policy of the media may still bring an object to the staging key."""
        return self._clock() < media.policy_expires_at + self.grace

    def _first_purge_at(self, media: Media, now: datetime) -> datetime:
        """Return when neither a policy nor a promotion that has ended by `now` can bring an object back."""
        return max(media.policy_expires_at + self.grace, now + LEASE)

    def _purge_again_at(self, media: Media, now: datetime) -> datetime:
        """Return when that holds although the clock that read `now`, or the one that will, is wrong."""
        return self._first_purge_at(media, now) + MAX_CLOCK_DIFFERENCE
