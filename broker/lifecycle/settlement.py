"""The settlement of a media: judge the upload, promote it, purge the rest.

A client's complete, S3's events and the sweep (`due.py`) all come through here. The caller that promotes holds a lease,
so that one copy is made and a crash is taken over. Every change is a compare-and-set; the loser of a race re-reads the
row and decides again.

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
- A multipart upload belongs to the final key of one attempt. Lease holders that overlap copy the same judged parts into
  it: each copy needs the judged ETag, and the completion names the ETag of each copied part. So a late copy of another
  part makes the completion fail, and two completions make the same object.
- An abort names the multipart upload of an attempt that will not become ready, or that is complete. The last purge
  lists the multipart uploads under the media's final keys and aborts them before it removes the final objects, so that
  no late completion brings one back. An upload that S3 creates after that has no parts; the bucket's lifecycle rule
  for incomplete multipart uploads aborts it.
"""

import asyncio
from datetime import datetime, timedelta
from functools import partial

from broker import metrics
from broker.aws.bucket import Bucket
from broker.clock import Clock, Stopwatch, monotonic, utc_now
from broker.domain.keys import current_key, every_final_key, staging_key
from broker.domain.media import GONE, Arrived, Event, Media, State
from broker.domain.rules import differences, video_differences
from broker.errors import NothingUploaded, ProbeFailed, PromotionRunning
from broker.lifecycle.leases import LEASE, Leases
from broker.lifecycle.probe import Probe
from broker.lifecycle.purging import MAX_KEYS, Purges
from broker.lifecycle.resumable.settlement import Record, Resumable
from broker.store import Store

MAX_JUDGEMENTS = 3
"""An upload whose staging object is overwritten is judged this many times, then rejected."""
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
        self.purges = Purges(bucket.deletion)
        self._probe = probe
        self._max_video_seconds = max_video_seconds
        self._store = store
        self._bucket = bucket
        self._clock = clock
        self._resumable = Resumable(store, bucket, self.leases, self)

    async def close(self) -> None:
        """Stop the compositions, and finish the purges in the background, as far as a few seconds suffice."""
        await self._resumable.close()
        await self.purges.close()

    def composes_more(self) -> bool:
        """Return whether the sweep should bring media that may have to be composed."""
        return self._resumable.has_room()

    async def judge(self, media: Media, part: int | None = None) -> Media:
        """Compare the upload with the promise, record the verdict, and promote or reject.

        `part` is the part of a resumable upload whose arrival is the reason to look.
        Returns the media as it then is; after a lost race that may be any state. Raises NothingUploaded and
        ProbeFailed. An expired media is promoted if its upload matches, and counts as without upload otherwise.
        """
        if media.part_size is not None:
            return await self._resumable.judge(media, part)
        key = staging_key(media.id)
        arrived = await self._bucket.head(key)
        if arrived is None:
            raise NothingUploaded
        reason = differences(media, arrived)
        facts: dict[str, object] = {}
        if self._probe is not None and not reason:
            reason, facts = await self.inspect(media, key, arrived, partial(self._store.amend, media))
        if reason and media.state is State.EXPIRED:
            raise NothingUploaded
        if reason:
            return await self.reject(media, Event.DIFFER, reason, **facts)
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

    async def inspect(self, media: Media, key: str, arrived: Arrived, record: Record) -> tuple[str, dict[str, object]]:
        """Probe the object. Return the reason to reject it (empty if none) and the media's fields to record.

        An object that cannot be probed in MAX_JUDGEMENTS attempts is rejected; before that, ProbeFailed is raised.
        """
        if (probe := self._probe) is None:
            return "", {}
        try:
            video = await probe.inspect(partial(self._bucket.signed_read, key, arrived.etag))
        except ProbeFailed:
            if media.judgements + 1 >= MAX_JUDGEMENTS:
                return "it could not be inspected", {}
            await record(judgements=media.judgements + 1)
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
                return await self.take_lease(media)
            await asyncio.sleep(WAIT_SECONDS)
            media = await self._reread(media)
        raise PromotionRunning

    async def take_lease(self, media: Media) -> Media:
        """Begin another attempt for a media whose lease has expired, unless another caller does.

        A composition whose multipart upload is recorded is continued, as the same attempt. Raises PromotionRunning.
        """
        attempt = media.attempt + (media.multipart_id is None)
        take = partial(self._store.amend, media, attempt=attempt, due_at=self.leases.end())
        if media.part_size is not None:
            return await self._resumable.promote(media, take)
        leased = await take()
        return await self._reread(media) if leased is None else await self._promote(leased)

    async def _promote(self, media: Media) -> Media:
        """Copy the judged object to the final key of this attempt; only the lease holder does so."""
        if media.judged is None:
            raise AssertionError("a media is judged before it is promoted")
        async with self.leases.renewed(self._store, media) as lease:
            with metrics.PROMOTION_SECONDS.time():
                promoted = await self._bucket.promote(staging_key(media.id), current_key(media), media.judged)
        if not promoted:
            return await self.judge_again(lease.media)
        return await self.become_ready(lease.media)

    async def become_ready(self, media: Media, **facts: object) -> Media:
        """Record that the object under the final key is the judged one, and purge the upload."""
        now = self._clock()
        due_at = self.first_purge_at(media, now)
        ready = await self._store.change(media, Event.PROMOTE, ready_at=now, due_at=due_at, **facts)
        if ready is None:
            return await self.lost(media)
        self._purge_upload_soon(media)
        return ready

    async def judge_again(self, media: Media) -> Media:
        """Go back to judge an overwritten staging object, a bounded number of times."""
        if media.judgements >= MAX_JUDGEMENTS:
            return await self.reject(media, Event.GIVE_UP, "it was overwritten while it was being checked")
        again = await self._store.change(media, Event.OVERWRITE, due_at=media.policy_expires_at + self.grace)
        if again is None:
            return await self.lost(media)
        self.purges.add(current_key(media))
        return again

    async def lost(self, media: Media) -> Media:
        """Return the row as another caller left it, and remove the copy of this attempt.

        Another lease holder may continue the composition of this attempt, so its object stays.
        """
        after = await self._reread(media)
        if after.attempt != media.attempt or after.state not in {State.PROMOTING, State.READY}:
            self.purges.add(current_key(media))
        if after.state in FINISHED:
            self._purge_upload_soon(media)
        return after

    def _purge_upload_soon(self, media: Media) -> None:
        """Remove what was uploaded, in the background."""
        if media.part_size is None:
            self.purges.add(staging_key(media.id))
        else:
            self.purges.add_job(partial(self._resumable.purge, media))

    async def reject(self, media: Media, event: Event, reason: str, **facts: object) -> Media:
        """Reject a media, with the reason in words, and purge what was uploaded and copied."""
        rejected = await self._store.change(
            media,
            event,
            differences=reason,
            due_at=self.first_purge_at(media, self._clock()),
            still_promised=self.policy_is_open(media),
            **facts,
        )
        if rejected is None:
            return await self.lost(media) if media.state is State.PROMOTING else await self._reread(media)
        self._purge_upload_soon(media)
        if media.state is State.PROMOTING:
            self.purges.add(current_key(media))
        return rejected

    async def remove(self, media: Media) -> None:
        """Remove the objects of a media that is being deleted, as far as one turn does."""
        if media.part_size is not None:
            await self._resumable.purge(media)
        await self._bucket.deletion.purge(*[staging_key(media.id), *every_final_key(media)][:MAX_KEYS])

    async def purge_upload(self, media: Media) -> bool:
        """Remove what was uploaded, in one bounded turn; return whether nothing is left."""
        if media.part_size is not None:
            return await self._resumable.purge(media)
        return await self.purges.remove(staging_key(media.id))

    async def _reread(self, media: Media) -> Media:
        return await self._store.get(media.id, None)

    def policy_is_open(self, media: Media) -> bool:
        """Return whether a policy of the media may still bring an object to the staging key."""
        return self._clock() < media.policy_expires_at + self.grace

    def first_purge_at(self, media: Media, now: datetime) -> datetime:
        """Return when neither a policy nor a promotion that has ended by `now` can bring an object back."""
        return max(media.policy_expires_at + self.grace, now + LEASE)
