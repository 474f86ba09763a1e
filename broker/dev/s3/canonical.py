"""The canonical request and the string to sign, as a client should have made them.

Source: Amazon S3 API Reference, "Create a canonical request".
"""

import hashlib
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import unquote_to_bytes

from broker.dev.s3.errors import S3Error
from broker.dev.s3.request import Request
from broker.domain.s3 import sigv4

_SPACES = re.compile(rb"[ \t]+")


def signature_mismatch(access_key: str, text: str, signature: str, canonical: bytes | None = None) -> S3Error:
    """Return the error that shows a client the text that S3 would have signed."""
    error = S3Error(
        "SignatureDoesNotMatch",
        AWSAccessKeyId=access_key,
        StringToSign=text,
        SignatureProvided=signature,
        StringToSignBytes=text.encode().hex(" "),
    )
    if canonical is not None:
        error.elements["CanonicalRequest"] = canonical.decode(errors="replace")
        error.elements["CanonicalRequestBytes"] = canonical.hex(" ")
    return error


def parse_amz_date(text: str) -> datetime | None:
    """Read an `x-amz-date`, such as `20151229T000000Z`; None if it is malformed."""
    try:
        return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def parse_date_header(text: str) -> datetime | None:
    """Read a `Date` header, as HTTP or as `x-amz-date` writes it; None if it is malformed."""
    if (date := parse_amz_date(text)) is not None:
        return date
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return date.astimezone(UTC) if date.tzinfo else date.replace(tzinfo=UTC)


def string_to_sign(at: datetime, region: str, canonical: bytes) -> str:
    """Return the text that a header or query signature signs."""
    digest = hashlib.sha256(canonical).hexdigest()
    return f"{sigv4.ALGORITHM}\n{sigv4.amz_date(at)}\n{sigv4.scope(at.date(), region)}\n{digest}"


def canonical_requests(request: Request, signed_headers: list[str], payload_hash: str) -> list[bytes]:
    """Return the canonical requests that the client may have signed.

    A header's value is signed as it is sent. Node sends a value in ISO-8859-1 that the JavaScript SDK signed in
    UTF-8, and S3 accepts that as well.
    """
    sent = [
        b",".join(_SPACES.sub(b" ", value).strip() for value in request.raw_header(name)) for name in signed_headers
    ]
    candidates = [_canonical_request(request, signed_headers, sent, payload_hash)]
    if not all(value.isascii() for value in sent):
        decoded = [value.decode("latin-1").encode() for value in sent]
        candidates.append(_canonical_request(request, signed_headers, decoded, payload_hash))
    return candidates


def _canonical_request(request: Request, names: list[str], values: list[bytes], payload_hash: str) -> bytes:
    path = sigv4.uri_encode(unquote_to_bytes(request.raw_path).decode(), safe="/")
    query = "&".join(
        f"{name}={value}"
        for name, value in sorted(
            (sigv4.uri_encode(name), sigv4.uri_encode(value))
            for name, value in request.query
            if name != "X-Amz-Signature"
        )
    )
    headers = b"".join(b"%s:%s\n" % (name.encode(), value) for name, value in zip(names, values, strict=True))
    head = "\n".join((request.method, path, query, ""))
    return head.encode() + headers + f"\n{';'.join(names)}\n{payload_hash}".encode()


def empty_digest() -> str:
    """Return the SHA-256 of no bytes, as 64 hex digits."""
    return hashlib.sha256().hexdigest()
