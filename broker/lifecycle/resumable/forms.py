"""The forms of a resumable upload: a policy for each part, issued in pages until the upload expires.

The row names the end of the last policy before that policy leaves the broker. So a purge after that end is the last.
"""

import asyncio
from datetime import datetime, timedelta

from broker import metrics
from broker.aws.bucket import Bucket
from broker.domain.keys import part_key, parts_prefix
from broker.domain.media import GONE, Media, State
from broker.domain.parts import PARTS_PER_LIST
from broker.domain.s3.policy import Promise
from broker.domain.s3.sigv4 import Credentials
from broker.errors import MediaNotFound, NotResumable, UploadExpired, UploadRejected
from broker.lifecycle.forms import lifetime
from broker.lifecycle.requests import Issued, PartForm, PartsPage
from broker.store import Store

MAX_PAGE = PARTS_PER_LIST
"""The number of parts that one page describes; one ListObjectsV2 shows as many."""
FIRST_FORMS = 20
"""The number of forms in the answer to an issue. Even with a session token they take less than 60 KB."""
OWN_FIELDS = ("key", "policy", "x-amz-signature")
"""The fields in which the forms of one page differ; in all others they are the same."""
SIGNED_AT_ONCE = 50
"""The number of forms that are signed before other requests get a turn: 2 ms of processor time."""


class Parts:
    """Issue the forms of parts, with one store and one bucket."""

    def __init__(
        self, store: Store, bucket: Bucket, *, policy_seconds: int, resumable_seconds: int, grace: timedelta
    ) -> None:
        self._store = store
        self._bucket = bucket
        self._policy_seconds = policy_seconds
        self._resumable = timedelta(seconds=resumable_seconds)
        self._grace = grace

    def upload_end(self, now: datetime) -> datetime:
        """Return when an upload that is issued now expires."""
        return now + self._resumable

    def policy_end(self, now: datetime, upload_expires_at: datetime) -> datetime:
        """Return the end of policies to record now: late enough for all that are issued in the next policy's time."""
        return min(now + timedelta(seconds=2 * self._policy_seconds), upload_expires_at)

    async def reserve(self, media: Media, now: datetime) -> Media:
        """Return the media once its row allows a policy that is issued now. Any state but pending is returned as it is.

        Raises UploadExpired.
        """
        while media.state is State.PENDING:
            last = media.accepts_until
            if now >= last:
                raise UploadExpired
            if media.policy_expires_at >= min(now + timedelta(seconds=self._policy_seconds), last):
                return media
            ends = self.policy_end(now, last)
            reserved = await self._store.amend(media, policy_expires_at=ends, due_at=ends + self._grace)
            media = reserved or await self._store.get(media.id, None)
        return media

    async def first_page(self, media: Media, keys: Credentials, now: datetime, *, is_new: bool) -> Issued:
        """Return the forms of the first parts, or of the first missing ones if the media is not new.

        Raises what `page` does.
        """
        if is_new:
            numbers = list(range(1, min(FIRST_FORMS, media.layout.count) + 1))
            page = await self._forms(media, keys, now, numbers=numbers, arrived=[], first=1, limit=FIRST_FORMS)
        else:
            page = await self.page(media, keys, now, first=1, limit=MAX_PAGE, max_forms=FIRST_FORMS)
        metrics.ISSUES.inc()
        is_pending = page.media.state is State.PENDING
        return Issued(page.media, page.url, {}, page.expires_in, page.expires_at, page if is_pending else None)

    async def page(
        self, media: Media, keys: Credentials, now: datetime, *, first: int, limit: int, max_forms: int
    ) -> PartsPage:
        """Return which of the parts `first` to `first + limit - 1` have arrived, and forms for the missing ones.

        Raises MediaNotFound, NotResumable, UploadExpired, UploadRejected, and CredentialsExpired.
        """
        if media.state in GONE:
            raise MediaNotFound
        if media.part_size is None:
            raise NotResumable
        media = await self.reserve(media, now)
        match media.state:
            case State.PENDING:
                missing, arrived = await self._listed(media, first, limit)
                return await self._forms(
                    media, keys, now, numbers=missing[:max_forms], arrived=arrived, first=first, limit=limit
                )
            case State.PROMOTING | State.READY:
                numbers = list(range(first, min(first + limit, media.layout.count + 1)))
                return await self._forms(media, keys, now, numbers=[], arrived=numbers, first=first, limit=limit)
            case State.REJECTED:
                raise UploadRejected(differences=media.differences)
            case State.EXPIRED:
                raise UploadExpired
            case _:
                raise MediaNotFound

    async def _listed(self, media: Media, first: int, limit: int) -> tuple[list[int], list[int]]:
        """Return the missing and the arrived numbers of one page. A part of a wrong size is missing."""
        layout = media.layout
        numbers = range(first, min(first + limit, layout.count + 1))
        if not numbers:
            return [], []
        stored = await self._bucket.multipart.staged(
            parts_prefix(media.id), after=part_key(media.id, first - 1), limit=len(numbers)
        )
        there = {part.number for part in stored if part.size == layout.size_of(part.number)}
        return [number for number in numbers if number not in there], [n for n in numbers if n in there]

    async def _forms(
        self,
        media: Media,
        keys: Credentials,
        now: datetime,
        *,
        numbers: list[int],
        arrived: list[int],
        first: int,
        limit: int,
    ) -> PartsPage:
        """Return a page with forms for `numbers`; their policies end with the recorded end at the latest."""
        layout = media.layout
        remaining = int((media.policy_expires_at - now).total_seconds())
        expires_in = lifetime(keys, min(remaining, self._policy_seconds), now) if numbers else 0
        common: dict[str, str] = {}
        forms = []
        for place, number in enumerate(numbers, 1):
            size = layout.size_of(number)
            promise = Promise(self._bucket.config.name, part_key(media.id, number), media.content_type, size, size)
            fields = self._bucket.sign_upload(promise, keys, now=now, expires_in=expires_in)
            own = {name: fields.pop(name) for name in OWN_FIELDS}
            common = fields
            forms.append(PartForm(number, size, own))
            if place % SIGNED_AT_ONCE == 0:
                await asyncio.sleep(0)
        metrics.PART_POLICIES.inc(len(forms))
        following = first + limit
        return PartsPage(
            media=media,
            url=self._bucket.form_url,
            fields=common,
            forms=forms,
            arrived=arrived,
            next_from=following if following <= layout.count else None,
            expires_in=expires_in,
            expires_at=now + timedelta(seconds=expires_in),
        )
