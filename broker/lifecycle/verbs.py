"""Issue, complete, playback, list, delete: the verbs in the life of a media.

Each verb reads like the table in `broker/domain/media.py`. The record is written before each effect on S3, so that
the next request or the sweep finishes what a crash interrupted. Every change is a compare-and-set; the loser of a race
re-reads the row and decides again.
"""

import hashlib
import json
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import structlog

from broker import metrics
from broker.aws.bucket import Bucket
from broker.clock import Clock, utc_now
from broker.domain.disposition import attachment
from broker.domain.ids import new_id
from broker.domain.keys import final_key, staging_key
from broker.domain.media import GONE, NOTHING_BESIDE, Event, Media, State
from broker.domain.policy import MAX_POLICY_SECONDS, Promise
from broker.domain.quota import Quota
from broker.domain.rules import Rules, is_active
from broker.domain.sigv4 import Credentials
from broker.errors import (
    BrokerError,
    CredentialsExpired,
    IdempotencyKeyInFlight,
    IdempotencyKeyReused,
    MediaNotFound,
    NothingUploaded,
    NotReady,
    ProbeFailed,
    PromotionRunning,
    StorageRefused,
    StorageUnavailable,
    UploadExpired,
    UploadRejected,
)
from broker.lifecycle.settlement import LEASE, NEVER_READY, Settlement
from broker.store import Store

log = structlog.get_logger()

DEFAULT_PLAYBACK_SECONDS = 3600
NOT_CONFIRMED = (
    NothingUploaded,
    ProbeFailed,
    PromotionRunning,
    StorageUnavailable,
    StorageRefused,
    UploadExpired,
    UploadRejected,
)
"""How a confirmation may end without a ready media; a browser that comes back is told by the media's state."""
RENEW_WITHIN = timedelta(seconds=MAX_POLICY_SECONDS)
"""No policy of a media ends later than this after its first issue, however often it is renewed."""


class UploadRequest(NamedTuple):
    """Say what a client asks to upload. Sizes are bytes, durations seconds, the checksum is base64."""

    content_type: str
    size: int | None = None
    filename: str | None = None
    duration_seconds: float | None = None
    checksum_sha256: str | None = None
    metadata: dict[str, str] | None = None
    redirect_url: str | None = None

    def digest(self) -> str:
        """Return what tells two requests apart; 64 hex digits.

        What was not asked for does not count: a later version, with more to ask for, knows earlier requests again.
        """
        asked = {name: value for name, value in self._asdict().items() if value not in (None, {})}
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


class Issued(NamedTuple):
    """Answer an issue: the media and, while it is pending, the form's address and fields."""

    media: Media
    url: str
    fields: dict[str, str]
    expires_in: int
    expires_at: datetime


class Playback(NamedTuple):
    """Answer with a link to a ready media; it ends at `expires_at`, `expires_in` seconds from now."""

    media: Media
    signed_url: str
    expires_in: int
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class FormUploaded:
    """Say where a browser goes after a plain form's upload, and how that ended."""

    redirect_url: str
    status: State


class Lifecycle:
    """Carry out the verbs with one store and one bucket.

    `owner` limits a verb to one owner's media; None is an administrator, or the broker itself.
    """

    def __init__(
        self,
        store: Store,
        bucket: Bucket,
        *,
        rules: Rules,
        quota: Quota,
        settlement: Settlement,
        policy_seconds: int,
        clock: Clock = utc_now,
    ) -> None:
        self._store = store
        self._bucket = bucket
        self._rules = rules
        self._quota = quota
        self._policy_seconds = policy_seconds
        self._clock = clock
        self._settlement = settlement
        self._in_flight: set[tuple[str, str]] = set()

    def issue(
        self,
        asked: UploadRequest,
        owner: str,
        *,
        idempotency_key: str | None = None,
        uploaded_url: Callable[[UUID], str] | None = None,
    ) -> Coroutine[Any, Any, Issued]:
        """Record a pending media and return the policy for it; the record is durable first.

        `uploaded_url` gives the address to which S3 sends a plain form back. With an idempotency key the same request
        gets the same media, with a fresh policy while it is pending.
        """
        if idempotency_key is None:
            return self._issue(asked, owner, None, uploaded_url)
        return self._issue_once(asked, owner, idempotency_key, uploaded_url)

    async def _issue_once(
        self, asked: UploadRequest, owner: str, idempotency_key: str, uploaded_url: Callable[[UUID], str] | None
    ) -> Issued:
        claim = (owner, idempotency_key)
        if claim in self._in_flight:
            raise IdempotencyKeyInFlight
        self._in_flight.add(claim)
        try:
            return await self._issue(asked, owner, idempotency_key, uploaded_url)
        finally:
            self._in_flight.discard(claim)

    async def _issue(
        self,
        asked: UploadRequest,
        owner: str,
        idempotency_key: str | None,
        uploaded_url: Callable[[UUID], str] | None,
    ) -> Issued:
        content_type = self._rules.check_type(asked.content_type)
        self._rules.check_size(asked.size)
        self._rules.check_duration(asked.duration_seconds)
        metadata = asked.metadata or NOTHING_BESIDE
        self._rules.check_metadata(metadata)
        self._rules.check_redirect(asked.redirect_url)
        at = self._clock()
        now = at.replace(microsecond=0)
        keys = await self._bucket.credentials(now)
        ends = now + timedelta(seconds=_lifetime(keys.lifetime(self._policy_seconds, now)))
        media = Media(
            id=new_id(at),
            owner=owner,
            content_type=content_type,
            max_size=self._rules.max_size,
            promised_size=asked.size,
            promised_sha256=asked.checksum_sha256,
            filename=asked.filename,
            duration_seconds=asked.duration_seconds,
            metadata=metadata,
            redirect_url=asked.redirect_url,
            created_at=now,
            policy_expires_at=ends,
            idempotency_key=idempotency_key,
            idempotency_digest=asked.digest() if idempotency_key else None,
            due_at=ends + self._settlement.grace,
        )
        recorded = await self._store.add(media, self._quota)
        if recorded is not media:
            if recorded.idempotency_digest != media.idempotency_digest:
                raise IdempotencyKeyReused
            recorded = await self._renew(recorded, now)
        return self._signed(recorded, keys, now, uploaded_url)

    async def _renew(self, media: Media, now: datetime) -> Media:
        """Record a later end for the policy of a pending media, but never later than its bound."""
        while media.state is State.PENDING:
            ends = min(now + timedelta(seconds=self._policy_seconds), media.created_at + RENEW_WITHIN)
            if ends <= now:
                raise UploadExpired
            if ends <= media.policy_expires_at:
                return media
            renewed = await self._store.amend(media, policy_expires_at=ends, due_at=ends + self._settlement.grace)
            media = renewed or await self._store.get(media.id, None)
        return media

    def _signed(
        self, media: Media, keys: Credentials, now: datetime, uploaded_url: Callable[[UUID], str] | None
    ) -> Issued:
        if media.state is not State.PENDING:
            if media.state in GONE or media.state is State.EXPIRED:
                raise UploadExpired
            return Issued(media, self._bucket.form_url, {}, 0, now)
        left = int((media.policy_expires_at - now).total_seconds())
        expires_in = _lifetime(keys.lifetime(min(left, self._policy_seconds), now))
        promise = Promise(
            bucket=self._bucket.config.name,
            key=staging_key(media.id),
            content_type=media.content_type,
            min_size=media.promised_size or 1,
            max_size=media.promised_bytes,
            sha256=media.promised_sha256,
            redirect_to=uploaded_url(media.id) if media.redirect_url and uploaded_url else None,
        )
        metrics.ISSUES.inc()
        fields = self._bucket.sign_upload(promise, keys, now=now, expires_in=expires_in)
        return Issued(media, self._bucket.form_url, fields, expires_in, now + timedelta(seconds=expires_in))

    async def complete(self, media_id: UUID, owner: str | None) -> Playback:
        """Judge what arrived, promote it, and return a link to it; on a ready media just the link.

        Raises NothingUploaded, PromotionRunning, UploadRejected, UploadExpired, MediaNotFound, and StorageUnavailable.
        If S3 is unavailable, the state is kept, and the next call or the sweep continues.
        """
        return await self._link(await self.confirm(media_id, owner), DEFAULT_PLAYBACK_SECONDS, download=False)

    async def confirm(self, media_id: UUID, owner: str | None) -> Media:
        """Judge what arrived, promote it, and return the ready media. Raises what `complete` does."""
        try:
            ready = await self._completed(media_id, owner)
        except BrokerError as error:
            metrics.COMPLETES.labels(type(error).__name__).inc()
            raise
        metrics.COMPLETES.labels("Ready").inc()
        return ready

    async def _completed(self, media_id: UUID, owner: str | None) -> Media:
        media = await self._visible(media_id, owner)
        while media.state is not State.READY:
            match media.state:
                case State.PENDING:
                    media = await self._settlement.judge(media)
                case State.PROMOTING:
                    media = await self._settlement.take_over(media)
                case State.REJECTED:
                    raise UploadRejected(differences=media.differences, media=media)
                case State.EXPIRED:
                    raise UploadExpired
                case _:
                    raise MediaNotFound
        return media

    async def complete_form(self, media_id: UUID) -> FormUploaded:
        """Complete what a plain form uploaded; say how that ended and where the browser goes now.

        Raises MediaNotFound for a media that was not issued with a `redirect_url`.
        """
        try:
            await self.confirm(media_id, None)
        except NOT_CONFIRMED as error:
            log.info("form is not complete", media_id=str(media_id), reason=type(error).__name__)
        media = await self._visible(media_id, None)
        if media.redirect_url is None:
            raise MediaNotFound
        return FormUploaded(media.redirect_url, media.state)

    async def playback(self, media_id: UUID, owner: str | None, *, expires_in: int, download: bool) -> Playback:
        """Return a link that ends in `expires_in` seconds, or sooner where the credentials do.

        Raises MediaNotFound and NotReady.
        """
        media = await self._visible(media_id, owner)
        if media.state is not State.READY:
            if media.state in NEVER_READY:
                raise NotReady(media_status=media.state, retry_after=None)
            raise NotReady(media_status=media.state)
        return await self._link(media, expires_in, download=download)

    async def list_media(
        self, owner: str | None, *, state: State | None, limit: int, before: UUID | None
    ) -> list[Media]:
        """Return at most `limit` media, newest first, older than `before`."""
        return await self._store.list(owner, state=state, limit=limit, before=before)

    async def delete(self, media_id: UUID, owner: str | None) -> None:
        """Record that a media is being deleted and remove its objects; from then on nobody sees it.

        An S3 that is away does not undo this: the sweep removes the objects later. Raises MediaNotFound.
        """
        media = await self._visible(media_id, owner)
        deleting = None
        while deleting is None:
            deleting = await self._store.change(media, Event.DELETE, due_at=self._clock() + LEASE)
            if deleting is None:
                media = await self._visible(media_id, owner)
        with suppress(StorageUnavailable, StorageRefused):
            await self._bucket.purge(staging_key(media.id), final_key(media.id, media.content_type))

    async def _link(self, media: Media, asked_seconds: int, *, download: bool) -> Playback:
        metrics.PLAYBACK_LINKS.inc()
        now = self._clock().replace(microsecond=0)
        overrides = (
            {"response-content-disposition": attachment(_download_name(media))}
            if download or is_active(media.content_type)
            else {}
        )
        url, expires_in = await self._bucket.playback_link(
            final_key(media.id, media.content_type), asked_seconds, now=now, overrides=overrides
        )
        return Playback(media, url, expires_in, now + timedelta(seconds=expires_in))

    async def _visible(self, media_id: UUID, owner: str | None) -> Media:
        media = await self._store.get(media_id, owner)
        if media.state in GONE:
            raise MediaNotFound
        return media


def _lifetime(seconds: int) -> int:
    """Return a lifetime that a signature can have. Raises CredentialsExpired for none at all."""
    if seconds < 1:
        raise CredentialsExpired
    return seconds


def _download_name(media: Media) -> str:
    return media.filename or final_key(media.id, media.content_type).rpartition("/")[2]
