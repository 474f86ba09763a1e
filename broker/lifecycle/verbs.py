"""Issue, complete, playback, list, delete: the verbs of clients.

Each verb reads like the table in `broker/domain/media.py`. The record is written before each effect on S3, so that
the next request or the sweep finishes what a crash interrupted. Every change is a compare-and-set; the loser of a race
re-reads the row and decides again.
"""

from contextlib import suppress
from datetime import timedelta
from uuid import UUID

import structlog

from broker import metrics
from broker.aws.bucket import Bucket
from broker.clock import Clock, utc_now
from broker.domain.access.quota import Quota
from broker.domain.disposition import attachment
from broker.domain.ids import new_id
from broker.domain.keys import current_key, extension
from broker.domain.media import GONE, NO_METADATA, Event, Media, State
from broker.domain.rules import Rules, is_active
from broker.errors import (
    BrokerError,
    IdempotencyKeyInFlight,
    IdempotencyKeyReused,
    MediaNotFound,
    NothingUploaded,
    NotReady,
    PermissionMissing,
    ProbeFailed,
    PromotionRunning,
    StorageRefused,
    StorageUnavailable,
    UploadExpired,
    UploadRejected,
)
from broker.lifecycle.application.agreement import agree, earlier_media
from broker.lifecycle.application.deciding import Deciding
from broker.lifecycle.forms import Forms, UploadedUrl
from broker.lifecycle.requests import FormUploaded, Issued, PartsPage, Playback, Terms, UploadRequest
from broker.lifecycle.resumable.forms import Parts
from broker.lifecycle.settlement import Settlement
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
"""The errors of a confirmation that leave a media to show; a returning browser learns its state."""
NO_RETRY = GONE | {State.REJECTED, State.EXPIRED}
"""The states from which a media is not expected to become ready."""


class Lifecycle:
    """Carry out the verbs with one store and one bucket.

    `owner` limits a verb to one owner's media; None stands for an administrator or the broker itself.
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
        deciding: Deciding | None = None,
        resumable_seconds: int = 86_400,
        clock: Clock = utc_now,
    ) -> None:
        """Ask `deciding` about each new upload; without one, the rules and the quota alone decide."""
        self._store = store
        self._bucket = bucket
        self._rules = rules
        self._quota = quota
        self._clock = clock
        self._settlement = settlement
        self._deciding = deciding
        self._forms = Forms(store, bucket, policy_seconds=policy_seconds, grace=settlement.grace)
        self._parts = Parts(
            store,
            bucket,
            policy_seconds=policy_seconds,
            resumable_seconds=resumable_seconds,
            grace=settlement.grace,
        )
        self._in_flight: set[tuple[str, str]] = set()

    async def issue(
        self,
        request: UploadRequest,
        caller: str,
        *,
        permissions: frozenset[str] = frozenset(),
        idempotency_key: str | None = None,
        uploaded_url: UploadedUrl | None = None,
    ) -> Issued:
        """Record a pending media and return its policy; the record is durable before the policy leaves.

        The application gets `permissions`, if it decides on uploads. `uploaded_url` returns the address to which
        S3 redirects a plain form. With an idempotency key, the same request gets the same media again, with a fresh
        policy while it is pending, and the application is not asked again.
        """
        if idempotency_key is None:
            return await self._issue(request, caller, permissions, None, uploaded_url)
        claim = (caller, idempotency_key)
        if claim in self._in_flight:
            raise IdempotencyKeyInFlight
        self._in_flight.add(claim)
        try:
            return await self._issue(request, caller, permissions, idempotency_key, uploaded_url)
        finally:
            self._in_flight.discard(claim)

    async def has_issued(self, caller: str, idempotency_key: str) -> bool:
        """Return whether the caller has used its key before, so that the same request issues nothing new."""
        if (caller, idempotency_key) in self._in_flight:
            return True
        return await earlier_media(self._store, caller, idempotency_key) is not None

    async def _issue(
        self,
        request: UploadRequest,
        caller: str,
        permissions: frozenset[str],
        idempotency_key: str | None,
        uploaded_url: UploadedUrl | None,
    ) -> Issued:
        content_type = self._rules.check_type(request.content_type)
        self._rules.check_size(request.size)
        part_size = None
        if request.resumable:
            part_size = self._rules.check_parts(request.size, request.checksum_sha256, request.redirect_url)
        else:
            self._rules.check_form(request.size, request.checksum_crc64nvme)
        self._rules.check_duration(request.duration_seconds)
        self._rules.check_metadata(request.metadata or NO_METADATA)
        self._rules.check_redirect(request.redirect_url)
        earlier = None
        if self._deciding is None and request.owner is None:
            terms = Terms(caller, request.metadata or NO_METADATA, idempotency_key)
        else:
            earlier, terms = await agree(self._store, self._deciding, request, caller, permissions, idempotency_key)
        at = self._clock()
        now = at.replace(microsecond=0)
        keys = await self._bucket.credentials(now)
        upload_expires_at = None if part_size is None else self._parts.upload_end(now)
        if upload_expires_at is None:
            ends = self._forms.policy_end(keys, now)
        else:
            ends = self._parts.policy_end(now, upload_expires_at)
        media = Media(
            id=new_id(at),
            owner=terms.owner,
            content_type=content_type,
            max_size=self._rules.max_form_size if part_size is None else self._rules.max_size,
            promised_size=request.size,
            promised_sha256=request.checksum_sha256,
            filename=request.filename,
            duration_seconds=request.duration_seconds,
            metadata=terms.metadata,
            redirect_url=request.redirect_url,
            created_at=now,
            policy_expires_at=ends,
            idempotency_key=terms.idempotency_key,
            idempotency_digest=request.digest() if idempotency_key else None,
            due_at=ends + self._settlement.grace,
            issued_by=terms.issued_by,
            allow_link=terms.allow_link,
            part_size=part_size,
            upload_expires_at=upload_expires_at,
            promised_crc64nvme=request.checksum_crc64nvme,
        )
        recorded = earlier or await self._store.add(media, self._quota)
        if recorded is not media:
            if recorded.idempotency_digest != media.idempotency_digest:
                raise IdempotencyKeyReused
            if part_size is None:
                recorded = await self._forms.renew(recorded, now)
        if part_size is not None:
            return await self._parts.first_page(recorded, keys, now, is_new=recorded is media)
        return self._forms.signed(recorded, keys, now, uploaded_url)

    async def parts(self, media_id: UUID, owner: str | None, *, first: int, limit: int, max_forms: int) -> PartsPage:
        """Return which parts of a page have arrived, with fresh forms for at most `max_forms` missing ones.

        Raises MediaNotFound, NotResumable, UploadRejected, UploadExpired, and CredentialsExpired.
        """
        media = await self._store.get(media_id, owner)
        now = self._clock().replace(microsecond=0)
        keys = await self._bucket.credentials(now)
        return await self._parts.page(media, keys, now, first=first, limit=limit, max_forms=max_forms)

    async def complete(self, media_id: UUID, owner: str | None) -> Playback:
        """Judge what arrived, promote it, and return a link to it; on a ready media just the link.

        Raises NothingUploaded, PromotionRunning, UploadRejected, UploadExpired, MediaNotFound, and StorageUnavailable.
        If S3 is unavailable, the state is kept, and the next call or the sweep continues.
        """
        return await self.link(await self.confirm(media_id, owner), DEFAULT_PLAYBACK_SECONDS, download=False)

    async def confirm(self, media_id: UUID, owner: str | None, *, part: int | None = None) -> Media:
        """Judge what arrived, promote it, and return the ready media. Raises what `complete` does.

        `part` is the part of a resumable upload whose arrival is the reason.
        """
        try:
            ready = await self._completed(media_id, owner, part)
        except BrokerError as error:
            metrics.COMPLETES.labels(type(error).__name__).inc()
            raise
        metrics.COMPLETES.labels("Ready").inc()
        return ready

    async def _completed(self, media_id: UUID, owner: str | None, part: int | None) -> Media:
        media = await self._visible(media_id, owner)
        while media.state is not State.READY:
            match media.state:
                case State.PENDING:
                    media = await self._settlement.judge(media, part)
                case State.PROMOTING:
                    media = await self._settlement.take_over(media)
                case State.REJECTED:
                    raise UploadRejected(differences=media.differences, media=media)
                case State.EXPIRED:
                    media = await self._late(media, part)
                case _:
                    raise MediaNotFound
        return media

    async def _late(self, media: Media, part: int | None) -> Media:
        """Judge an upload that arrived after its media had expired. Raises UploadExpired if there is none."""
        try:
            return await self._settlement.judge(media, part)
        except NothingUploaded:
            raise UploadExpired from None

    async def complete_form(self, media_id: UUID) -> FormUploaded:
        """Complete the upload of a plain form; return the state of the media and the address for the browser.

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
        """Return a link that expires in `expires_in` seconds, or earlier with the credentials.

        Raises MediaNotFound and NotReady.
        """
        return await self.link(await self.ready(media_id, owner), expires_in, download=download)

    async def ready(self, media_id: UUID, owner: str | None) -> Media:
        """Return a ready media. Raises MediaNotFound, and NotReady with another one and its state."""
        media = await self._visible(media_id, owner)
        if media.state is not State.READY:
            if media.state in NO_RETRY:
                raise NotReady(media_status=media.state, media=media, retry_after=None)
            raise NotReady(media_status=media.state, media=media)
        return media

    async def list_media(
        self, owner: str | None, *, state: State | None, limit: int, before: UUID | None
    ) -> list[Media]:
        """Return at most `limit` media older than `before`, the newest first."""
        return await self._store.list(owner, state=state, limit=limit, before=before)

    async def delete(self, media_id: UUID, owner: str | None, *, unless_ready: bool = False) -> None:
        """Record that a media is being deleted, so that it is no longer shown, and remove its objects.

        If S3 is unavailable, the sweep removes the objects later. As long as the policy is open, the media counts as
        promised, because an object may still be posted. Raises MediaNotFound; with `unless_ready`, PermissionMissing
        for a ready media.
        """
        deleting = None
        while deleting is None:
            media = await self._visible(media_id, owner)
            if unless_ready and media.state is State.READY:
                raise PermissionMissing(permission="media:delete")
            deleting = await self._store.change(
                media,
                Event.DELETE,
                due_at=self._settlement.leases.end(),
                still_promised=self._settlement.policy_is_open(media),
            )
        with suppress(StorageUnavailable, StorageRefused):
            await self._settlement.remove(deleting)

    async def link(self, media: Media, seconds: int, *, download: bool) -> Playback:
        """Return a link to a ready media."""
        metrics.PLAYBACK_LINKS.inc()
        now = self._clock().replace(microsecond=0)
        overrides = (
            {"response-content-disposition": attachment(_download_name(media))}
            if download or is_active(media.content_type)
            else {}
        )
        url, expires_in = await self._bucket.playback_link(current_key(media), seconds, now=now, overrides=overrides)
        return Playback(media, url, expires_in, now + timedelta(seconds=expires_in))

    async def _visible(self, media_id: UUID, owner: str | None) -> Media:
        media = await self._store.get(media_id, owner)
        if media.state in GONE:
            raise MediaNotFound
        return media


def _download_name(media: Media) -> str:
    return media.filename or f"{media.id}.{extension(media.content_type)}"
