"""What a media's own state asks for, whoever asks: judge what arrived, promote it, purge what is left.

A client's complete and the sweep come through here. Whoever promotes holds a lease (`due_at`), so that one copy is made
and a crash is taken over; every change is a compare-and-set, and who loses it reads again.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from math import ceil

from broker import metrics
from broker.aws.bucket import Bucket
from broker.clock import Clock, utc_now
from broker.domain.keys import final_key, staging_key
from broker.domain.media import GONE, Arrived, Event, Media, State
from broker.domain.rules import differences, video_differences
from broker.errors import NothingUploaded, ProbeFailed, PromotionRunning, StorageRefused, StorageUnavailable
from broker.lifecycle.probe import Probe
from broker.store import Store

LEASE = timedelta(seconds=120)
"""For how long whoever promotes has a media for itself; after that somebody else takes over."""
MAX_JUDGEMENTS = 3
"""How often an overwritten staging object is judged before the upload is rejected."""
SLOWEST_UPLOAD = timedelta(days=1)
"""How long after the end of its policy an upload that began in time may still arrive."""
NEVER_READY = GONE | {State.REJECTED, State.EXPIRED}
"""The states that never lead to a final object."""
WAIT_SECONDS = 0.1
WAITS = 30
"""How often, and with which rest, a second caller looks whether a promotion under way has ended."""


class Settlement:
    """Drive a media to where its state rests, with one store and one bucket."""

    def __init__(
        self,
        store: Store,
        bucket: Bucket,
        *,
        grace: timedelta,
        probe: Probe | None = None,
        max_video_seconds: int = 0,
        clock: Clock = utc_now,
    ) -> None:
        """`probe` looks into each video, which may then last `max_video_seconds`; None: content is not looked at."""
        self.grace = grace
        self._probe = probe
        self._max_video_seconds = max_video_seconds
        self._store = store
        self._bucket = bucket
        self._clock = clock

    async def settle(self, media: Media) -> None:
        """Finish what is due for a media that the sweep has claimed.

        Raises StorageUnavailable and the like: then the state is kept, and the lease of the claim runs out.
        """
        match media.state:
            case State.PENDING:
                await self._settle_pending(media)
            case State.PROMOTING:
                await self._settle_pending(await self._promote(media))
            case State.DELETING:
                await self._finish_deleting(media)
            case State.READY:
                await self._bucket.purge(staging_key(media.id))
                await self._store.amend(media, due_at=None)
            case _:
                await self._bucket.purge(*_keys(media))
                await self._store.amend(media, due_at=None)

    async def judge(self, media: Media) -> Media:
        """Compare what arrived with what was promised, record the verdict, and promote or reject.

        Returns the media as it then is; after a lost race that may be any state. Raises NothingUploaded and
        ProbeFailed.
        """
        arrived = await self._bucket.head(staging_key(media.id))
        if arrived is None:
            raise NothingUploaded
        wrong = differences(media, arrived)
        seen: dict[str, object] = {}
        if self._probe is not None and not wrong:
            wrong, seen = await self._look_into(self._probe, media, arrived)
        if wrong:
            return await self._reject(media, Event.DIFFER, wrong, **seen)
        judged = await self._store.change(
            media,
            Event.MATCH,
            size=arrived.size,
            etag=arrived.etag,
            etag_is_md5=arrived.etag_is_md5,
            checksum=arrived.checksum,
            judgements=media.judgements + 1,
            due_at=self._clock() + LEASE,
            **seen,
        )
        return await self._reread(media) if judged is None else await self._promote(judged)

    async def _look_into(self, probe: Probe, media: Media, arrived: Arrived) -> tuple[str, dict[str, object]]:
        """Return what is wrong with the judged object's content, and what was seen in it, by the media's fields.

        What defies looking several times is wrong too. Raises ProbeFailed before that, and StorageUnavailable.
        """
        link = partial(self._bucket.internal_link, staging_key(media.id), expires_in=ceil(probe.timeout_seconds))
        try:
            video = await probe.look(link, arrived.etag)
        except ProbeFailed:
            if media.judgements + 1 >= MAX_JUDGEMENTS:
                return "it could not be looked into", {}
            await self._store.amend(media, judgements=media.judgements + 1)
            raise
        wrong = video_differences(video, self._max_video_seconds)
        if video is None:
            return wrong, {}
        return wrong, {
            "measured_seconds": video.seconds,
            "codec": video.codec,
            "width": video.width,
            "height": video.height,
        }

    async def take_over(self, media: Media) -> Media:
        """Go on with a promotion that somebody else began: wait for its end, or for the end of its lease.

        Raises PromotionRunning where it takes longer than a caller should wait.
        """
        for _ in range(WAITS):
            if media.state is not State.PROMOTING:
                return media
            now = self._clock()
            if media.due_at is None or media.due_at <= now:
                leased = await self._store.amend(media, due_at=now + LEASE)
                if leased is not None:
                    return await self._promote(leased)
            await asyncio.sleep(WAIT_SECONDS)
            media = await self._reread(media)
        raise PromotionRunning

    async def _promote(self, media: Media) -> Media:
        """Copy the judged object to its final key; only the holder of the lease comes here."""
        if media.judged is None:
            raise AssertionError("a media is judged before it is promoted")
        async with self._let_go_when_s3_is_away(media):
            with metrics.PROMOTION_SECONDS.time():
                promoted = await self._bucket.promote(*_keys(media), media.judged)
        if not promoted:
            return await self._judge_again(media)
        now = self._clock()
        ready = await self._store.change(media, Event.PROMOTE, ready_at=now, due_at=self._last_purge_at(media, now))
        if ready is None:
            return await self._lost_promotion(media)
        await self._purge_staging(ready)
        return ready

    async def _judge_again(self, media: Media) -> Media:
        """Clear the final key and go back to judge what was overwritten, a bounded number of times.

        Whoever finds another object there may have been overtaken, and that object be ready by now. So the lease is
        renewed first, which only its holder can; it outlasts the one call that removes.
        """
        held = await self._store.amend(media, due_at=self._clock() + LEASE)
        if held is None:
            return await self._lost_promotion(media)
        async with self._let_go_when_s3_is_away(held):
            await self._bucket.purge(final_key(held.id, held.content_type))
        if held.judgements >= MAX_JUDGEMENTS:
            return await self._reject(held, Event.GIVE_UP, "it was overwritten while it was being checked")
        again = await self._store.change(held, Event.OVERWRITE, due_at=held.policy_expires_at + self.grace)
        return again or await self._reread(held)

    async def _lost_promotion(self, media: Media) -> Media:
        """Read what happened meanwhile; a copy that nobody will ever own is removed."""
        media = await self._reread(media)
        if media.state in NEVER_READY:
            await self._bucket.purge(*_keys(media))
        return media

    @asynccontextmanager
    async def _let_go_when_s3_is_away(self, media: Media) -> AsyncIterator[None]:
        """End the lease at once where its holder cannot go on, so that the next who asks can."""
        try:
            yield
        except (StorageUnavailable, StorageRefused):
            await self._store.amend(media, due_at=self._clock())
            raise

    async def _reject(self, media: Media, event: Event, wrong: str, **seen: object) -> Media:
        due_at = self._last_purge_at(media, self._clock())
        rejected = await self._store.change(media, event, differences=wrong, due_at=due_at, **seen)
        if rejected is None:
            return await self._reread(media)
        await self._purge_staging(rejected)
        return rejected

    async def _settle_pending(self, media: Media) -> None:
        """Judge until it rests; a promotion that somebody else holds rests too."""
        while media.state is State.PENDING:
            try:
                media = await self.judge(media)
            except NothingUploaded:
                await self._expire(media)
                return

    async def _expire(self, media: Media) -> None:
        """End a policy that was not used; one that was renewed meanwhile is left alone."""
        if self._policy_is_over(media):
            await self._store.change(media, Event.EXPIRE, due_at=self._clock() + SLOWEST_UPLOAD)
        else:
            await self._store.amend(media, due_at=media.policy_expires_at + self.grace)

    async def _finish_deleting(self, media: Media) -> None:
        await self._bucket.purge(*_keys(media))
        if self._policy_is_over(media):
            await self._store.change(media, Event.PURGE, due_at=None)
        else:
            await self._store.amend(media, due_at=media.policy_expires_at + self.grace)

    async def _purge_staging(self, media: Media) -> None:
        """Remove the staging object now; where S3 is away, the sweep does when it is due."""
        with suppress(StorageUnavailable, StorageRefused):
            await self._bucket.purge(staging_key(media.id))

    async def _reread(self, media: Media) -> Media:
        return await self._store.get(media.id, None)

    def _policy_is_over(self, media: Media) -> bool:
        return self._clock() >= media.policy_expires_at + self.grace

    def _last_purge_at(self, media: Media, now: datetime) -> datetime:
        """Return when no policy can bring the staging object back any more."""
        return max(media.policy_expires_at + self.grace, now + LEASE)


def _keys(media: Media) -> tuple[str, str]:
    return staging_key(media.id), final_key(media.id, media.content_type)
