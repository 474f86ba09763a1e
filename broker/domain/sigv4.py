"""AWS Signature Version 4 for S3: pure functions of their arguments.

Time and keys come in as arguments, so the same call gives the same bytes at any time.
Source: Amazon S3 API Reference, "Authenticating Requests (AWS Signature Version 4)".
"""

import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import lru_cache
from hashlib import sha256
from urllib.parse import quote, urlsplit

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Name the keys that sign, and the instant at which they stop working."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None

    def lifetime(self, asked_seconds: int, now: datetime) -> int:
        """Return how many whole seconds of `asked_seconds` a signature made at `now` really lives."""
        if self.expires_at is None:
            return asked_seconds
        return max(0, min(asked_seconds, int((self.expires_at - now).total_seconds())))


@dataclass(frozen=True, slots=True)
class Address:
    """Say where one bucket answers: its name stands in the host (virtual-host style) or in the path (path style).

    `url` takes a form, and with an encoded key behind it a GET; it ends with a slash. `host` and `path` are the same
    as a signature holds them: `host` in lower case and without a default port, `path` with both its slashes.
    """

    url: str
    host: str
    path: str

    @classmethod
    def of(cls, url: str) -> "Address":
        """Take the address from a bucket's own http(s) URL, with or without its last slash."""
        parts = urlsplit(url)
        host = parts.netloc.lower().removesuffix({"http": ":80", "https": ":443"}[parts.scheme])
        path = parts.path.rstrip("/") + "/"
        return cls(f"{parts.scheme}://{parts.netloc}{path}", host, path)


# strftime would take a third of the time of a signature.
_TWO_DIGITS = tuple(f"{number:02}" for number in range(60))


def instant(moment: datetime) -> str:
    """Return `moment` (UTC) to the second, such as `2015-12-29T00:00:00Z`."""
    hour, minute, second = _TWO_DIGITS[moment.hour], _TWO_DIGITS[moment.minute], _TWO_DIGITS[moment.second]
    return f"{moment.date().isoformat()}T{hour}:{minute}:{second}Z"


def amz_date(now: datetime) -> str:
    """Return `now` (UTC) as `x-amz-date` writes it, such as `20151229T000000Z`."""
    return f"{_digits(now.date())}T{_TWO_DIGITS[now.hour]}{_TWO_DIGITS[now.minute]}{_TWO_DIGITS[now.second]}Z"


def scope(day: date, region: str) -> str:
    """Return the credential scope, such as `20151229/us-east-1/s3/aws4_request`."""
    return f"{_digits(day)}/{region}/s3/aws4_request"


@lru_cache(maxsize=16)
def _digits(day: date) -> str:
    return f"{day.year:04}{day.month:02}{day.day:02}"


@lru_cache(maxsize=256)
def _signer(secret_key: str, day: date, region: str) -> Callable[[bytes], str]:
    """Derive the key that signs for one day in one region, and return the HMAC-SHA256 with it; remembered.

    Source: RFC 2104, section 4: the two padded keys are hashed once, for all messages.
    """
    key = f"AWS4{secret_key}".encode()
    for part in (_digits(day), region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    block = key.ljust(sha256().block_size, b"\0")
    padded_inside = sha256(bytes(byte ^ 0x36 for byte in block))
    padded_outside = sha256(bytes(byte ^ 0x5C for byte in block))

    def hmac_sha256(text: bytes) -> str:
        inner, outer = padded_inside.copy(), padded_outside.copy()
        inner.update(text)
        outer.update(inner.digest())
        return outer.hexdigest()

    return hmac_sha256


def sign(secret_key: str, now: datetime, region: str, text: str) -> str:
    """Sign `text`, a base64 policy or a string to sign; 64 lower-case hex digits."""
    return _signer(secret_key, now.date(), region)(text.encode())


def same_signature(one: str, other: str) -> bool:
    """Compare two signatures in a time that does not depend on where they differ."""
    return hmac.compare_digest(one.encode(), other.encode())


def string_to_sign(now: datetime, region: str, canonical_request: str) -> str:
    """Return what a header or query signature signs."""
    digest = sha256(canonical_request.encode()).hexdigest()
    return f"{ALGORITHM}\n{amz_date(now)}\n{scope(now.date(), region)}\n{digest}"


def uri_encode(text: str, safe: str = "") -> str:
    """Percent-encode as AWS's UriEncode does: all but `A-Z a-z 0-9 - . _ ~` and `safe`."""
    return quote(text, safe=safe)


_PLAIN_PATH = re.compile(r"[A-Za-z0-9._~/-]+")
"""A key in which nothing has to be encoded, as all of the broker's own are."""
_uri_encode_again = lru_cache(maxsize=16)(uri_encode)
"""For what many URLs share: the access key, the scope, and the session token, which is long."""


def presign_get(
    credentials: Credentials,
    address: Address,
    key: str,
    *,
    now: datetime,
    region: str,
    expires_in: int,
    overrides: dict[str, str] | None = None,
) -> str:
    """Return a presigned GET URL of one object that lives for `expires_in` seconds from `now`.

    `overrides` are the `response-*` parameters by which S3 sets headers of its answer. The bytes equal those of
    botocore's `generate_presigned_url`. Source: Amazon S3 API Reference, "Authenticating Requests: Using Query
    Parameters (AWS Signature Version 4)".
    """
    path = key if _PLAIN_PATH.fullmatch(key) else uri_encode(key, safe="/")
    asked = [f"{name}={uri_encode(value)}" for name, value in overrides.items()] if overrides else []
    date, plain_scope = amz_date(now), scope(now.date(), region)
    who = f"{_uri_encode_again(credentials.access_key)}%2F{_uri_encode_again(plain_scope)}"
    signer = f"X-Amz-Algorithm={ALGORITHM}&X-Amz-Credential={who}&X-Amz-Date={date}&X-Amz-Expires={expires_in}"
    signed_headers = ["X-Amz-SignedHeaders=host"]
    token = []
    if credentials.session_token is not None:
        token.append(f"X-Amz-Security-Token={_uri_encode_again(credentials.session_token)}")
    # What is signed is sorted by name; what is sent keeps botocore's order.
    signed = "&".join([signer, *token, *signed_headers, *sorted(asked)])
    sent = "&".join([*asked, signer, *signed_headers, *token])
    canonical_request = f"GET\n{address.path}{path}\n{signed}\nhost:{address.host}\n\nhost\n{UNSIGNED_PAYLOAD}"
    digest = sha256(canonical_request.encode()).hexdigest()
    signature = sign(credentials.secret_key, now, region, f"{ALGORITHM}\n{date}\n{plain_scope}\n{digest}")
    return f"{address.url}{path}?{sent}&X-Amz-Signature={signature}"
