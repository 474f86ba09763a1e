"""The text that a client should have signed.

Source: Amazon S3 API Reference, "Create a canonical request".
"""

import hashlib
from datetime import UTC, datetime
from urllib.parse import unquote_to_bytes

from broker.dev.s3.errors import S3Error
from broker.dev.s3.request import Request
from broker.domain import sigv4


def signature_mismatch(access_key: str, text: str, signature: str, canonical: str | None = None) -> S3Error:
    """Return the refusal that shows a client what S3 would have signed."""
    error = S3Error(
        "SignatureDoesNotMatch",
        AWSAccessKeyId=access_key,
        StringToSign=text,
        SignatureProvided=signature,
        StringToSignBytes=text.encode().hex(" "),
    )
    if canonical is not None:
        error.elements["CanonicalRequest"] = canonical
        error.elements["CanonicalRequestBytes"] = canonical.encode().hex(" ")
    return error


def parse_amz_date(text: str) -> datetime | None:
    """Read an `x-amz-date`, such as `20151229T000000Z`; None when it is none."""
    try:
        return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def canonical_request(request: Request, signed_headers: list[str], payload_hash: str) -> str:
    """Return the canonical request that the client should have signed."""
    path = sigv4.uri_encode(unquote_to_bytes(request.raw_path).decode(), safe="/")
    query = "&".join(
        f"{name}={value}"
        for name, value in sorted(
            (sigv4.uri_encode(name), sigv4.uri_encode(value))
            for name, value in request.query
            if name != "X-Amz-Signature"
        )
    )
    headers = "".join(
        f"{name}:{','.join(' '.join(value.split()) for value in request.headers.getlist(name))}\n"
        for name in signed_headers
    )
    return "\n".join((request.method, path, query, headers, ";".join(signed_headers), payload_hash))


def empty_digest() -> str:
    """Return the SHA-256 of nothing, 64 hex digits."""
    return hashlib.sha256().hexdigest()
