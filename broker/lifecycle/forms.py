"""The form of an upload that is not resumable: one policy, renewed only for a repeated request."""

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

from broker import metrics
from broker.aws.bucket import Bucket
from broker.domain.keys import staging_key
from broker.domain.media import GONE, Media, State
from broker.domain.s3.policy import MAX_POLICY_SECONDS, Promise
from broker.domain.s3.sigv4 import Credentials
from broker.errors import CredentialsExpired, UploadExpired
from broker.lifecycle.requests import Issued
from broker.store import Store

RENEW_WITHIN = timedelta(seconds=MAX_POLICY_SECONDS)
"""No policy of a media ends later than this after its first issue, even if it is renewed repeatedly."""

UploadedUrl = Callable[[UUID], str]
"""Returns the address to which S3 redirects the plain form of a media."""


class Forms:
    """Issue forms, with one store and one bucket."""

    def __init__(self, store: Store, bucket: Bucket, *, policy_seconds: int, grace: timedelta) -> None:
        self._store = store
        self._bucket = bucket
        self._policy_seconds = policy_seconds
        self._grace = grace

    def policy_end(self, keys: Credentials, now: datetime) -> datetime:
        """Return when a policy that is issued now expires. Raises CredentialsExpired."""
        return now + timedelta(seconds=lifetime(keys, self._policy_seconds, now))

    async def renew(self, media: Media, now: datetime) -> Media:
        """Extend the recorded end of a pending media's policy, within RENEW_WITHIN."""
        while media.state is State.PENDING:
            ends = min(now + timedelta(seconds=self._policy_seconds), media.created_at + RENEW_WITHIN)
            if ends <= now:
                raise UploadExpired
            if ends <= media.policy_expires_at:
                return media
            renewed = await self._store.amend(media, policy_expires_at=ends, due_at=ends + self._grace)
            media = renewed or await self._store.get(media.id, None)
        return media

    def signed(self, media: Media, keys: Credentials, now: datetime, uploaded_url: UploadedUrl | None) -> Issued:
        """Return the signed form while the media is pending. Raises UploadExpired and CredentialsExpired."""
        if media.state is not State.PENDING:
            if media.state in GONE or media.state is State.EXPIRED:
                raise UploadExpired
            return Issued(media, self._bucket.form_url, {}, 0, now)
        remaining = int((media.policy_expires_at - now).total_seconds())
        expires_in = lifetime(keys, min(remaining, self._policy_seconds), now)
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


def lifetime(keys: Credentials, seconds: int, now: datetime) -> int:
    """Return how long a signature lives that should live for `seconds`. Raises CredentialsExpired if not for one."""
    lives = keys.lifetime(seconds, now)
    if lives < 1:
        raise CredentialsExpired
    return lives
