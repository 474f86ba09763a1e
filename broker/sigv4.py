"""AWS Signature Version 4 for S3: pure functions of their arguments.

Time and keys come in as arguments, so the same call gives the same bytes at any time.
Source: Amazon S3 API Reference, "Authenticating Requests (AWS Signature Version 4)".
"""

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from urllib.parse import quote

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Name the keys that sign, and the instant at which they stop to work."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None

    def lifetime(self, asked_seconds: int, now: datetime) -> int:
        """Return how many whole seconds of `asked_seconds` a signature made at `now` really lives."""
        if self.expires_at is None:
            return asked_seconds
        return max(0, min(asked_seconds, int((self.expires_at - now).total_seconds())))


def amz_date(now: datetime) -> str:
    """Return `now` (UTC) as `x-amz-date` writes it, such as `20151229T000000Z`."""
    return f"{now:%Y%m%dT%H%M%SZ}"


def scope(now: datetime, region: str) -> str:
    """Return the credential scope, such as `20151229/us-east-1/s3/aws4_request`."""
    return f"{now:%Y%m%d}/{region}/s3/aws4_request"


@lru_cache(maxsize=256)
def signing_key(secret_key: str, day: str, region: str) -> bytes:
    """Derive the key that signs for one `day` (`YYYYMMDD`) in one region; remembered."""
    key = f"AWS4{secret_key}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def sign(secret_key: str, now: datetime, region: str, text: str) -> str:
    """Sign `text`, a base64 policy or a string to sign; 64 lower-case hex digits."""
    key = signing_key(secret_key, f"{now:%Y%m%d}", region)
    return hmac.digest(key, text.encode(), "sha256").hex()


def same_signature(one: str, other: str) -> bool:
    """Compare two signatures in a time that does not depend on where they differ."""
    return hmac.compare_digest(one.encode(), other.encode())


def string_to_sign(now: datetime, region: str, canonical_request: str) -> str:
    """Return what a header or query signature signs."""
    digest = hashlib.sha256(canonical_request.encode()).hexdigest()
    return f"{ALGORITHM}\n{amz_date(now)}\n{scope(now, region)}\n{digest}"


def uri_encode(text: str, safe: str = "") -> str:
    """Percent-encode as AWS's UriEncode does: all but `A-Z a-z 0-9 - . _ ~` and `safe`."""
    return quote(text, safe=safe + "~")


def presign_get(
    credentials: Credentials,
    *,
    now: datetime,
    region: str,
    scheme: str,
    host: str,
    path: str,
    expires_in: int,
    overrides: dict[str, str] | None = None,
) -> str:
    """Return a presigned GET URL that lives for `expires_in` seconds from `now`.

    `path` is the encoded path with its leading slash. `overrides` are the `response-*` parameters by which S3
    sets headers of its answer. Source: Amazon S3 API Reference, "Authenticating Requests: Using Query Parameters".
    """
    query = {name: uri_encode(value) for name, value in (overrides or {}).items()}
    query["X-Amz-Algorithm"] = ALGORITHM
    query["X-Amz-Credential"] = uri_encode(f"{credentials.access_key}/{scope(now, region)}")
    query["X-Amz-Date"] = amz_date(now)
    query["X-Amz-Expires"] = str(expires_in)
    query["X-Amz-SignedHeaders"] = "host"
    if credentials.session_token is not None:
        query["X-Amz-Security-Token"] = uri_encode(credentials.session_token)
    canonical_query = "&".join(f"{name}={query[name]}" for name in sorted(query))
    canonical_request = f"GET\n{path}\n{canonical_query}\nhost:{host}\n\nhost\n{UNSIGNED_PAYLOAD}"
    signature = sign(credentials.secret_key, now, region, string_to_sign(now, region, canonical_request))
    url_query = "&".join(f"{name}={value}" for name, value in query.items())
    return f"{scheme}://{host}{path}?{url_query}&X-Amz-Signature={signature}"
