"""Upload tokens: bearer tokens of the broker's own, each for exactly one media.

A backend that issues on behalf of a user hands one to the user's page. Like the state of plain forms, a token is signed
with a key derived from SECRET_KEY, so the rotation of an identity provider's keys does not affect it.
"""

import hashlib
from datetime import datetime
from uuid import UUID

from itsdangerous import BadSignature, URLSafeSerializer

from broker.api.auth.caller import Caller
from broker.clock import Clock
from broker.errors import NotAuthenticated
from broker.lifecycle.due import SLOWEST_UPLOAD

PREFIX = "s3mu_"
"""The first characters of each token. No JWT begins so, and scanners for leaked secrets can search for it."""
_NO_PERMISSIONS: frozenset[str] = frozenset()


class UploadTokens:
    """Make and check upload tokens. A token says which media it is for and when it expires; the media says the rest."""

    def __init__(self, secret: str, clock: Clock) -> None:
        self._serializer = URLSafeSerializer(
            secret, salt="s3-media/upload-token", signer_kwargs={"digest_method": hashlib.sha256}
        )
        self._clock = clock

    def make(self, media_id: UUID, upload_expires_at: datetime) -> str:
        """Return a token for one media, whose upload may begin until `upload_expires_at` and take SLOWEST_UPLOAD."""
        expires_at = int((upload_expires_at + SLOWEST_UPLOAD).timestamp())
        signed = self._serializer.dumps([media_id.hex, expires_at])
        return PREFIX + (signed if isinstance(signed, str) else signed.decode())

    def caller(self, token: str) -> Caller:
        """Return the holder of a token, a caller without any permission. Raises NotAuthenticated."""
        try:
            media_hex, expires_at = self._serializer.loads(token.removeprefix(PREFIX))
        except BadSignature:
            raise NotAuthenticated(reason="the token is not valid", token_sent=True) from None
        if expires_at <= self._clock().timestamp():
            raise NotAuthenticated(reason="it has expired", token_sent=True)
        return Caller(f"upload {media_hex}", _NO_PERMISSIONS, UUID(media_hex))
