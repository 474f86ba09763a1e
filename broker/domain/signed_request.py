"""Header signatures: the Authorization field of one S3 request (Signature Version 4)."""

from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256

from broker.domain.sigv4 import ALGORITHM, Address, Credentials, amz_date, scope, sign, string_to_sign, uri_encode


def signed_headers(
    credentials: Credentials,
    address: Address,
    method: str,
    key: str = "",
    *,
    now: datetime,
    region: str,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> dict[str, str]:
    """Return the header fields that a request to `key` is sent with: `headers`, and those of its signature.

    The names in `headers` are in lower case; all of them are signed, and so are the host and the body's SHA-256. The
    signature equals botocore's. Source: Amazon S3 API Reference, "Signature Calculations for the Authorization Header".
    """
    digest = sha256(body).hexdigest()
    sent = {**(headers or {}), "x-amz-content-sha256": digest, "x-amz-date": amz_date(now)}
    if credentials.session_token is not None:
        sent["x-amz-security-token"] = credentials.session_token
    signed = sorted({"host": address.host, **sent}.items())
    names = ";".join(name for name, _ in signed)
    fields = "".join(f"{name}:{' '.join(value.split())}\n" for name, value in signed)
    canonical_request = (
        f"{method}\n{address.path}{uri_encode(key, safe='/')}\n{query_string(query or {})}\n{fields}\n{names}\n{digest}"
    )
    signature = sign(credentials.secret_key, now, region, string_to_sign(now, region, canonical_request))
    sent["authorization"] = (
        f"{ALGORITHM} Credential={credentials.access_key}/{scope(now.date(), region)}, "
        f"SignedHeaders={names}, Signature={signature}"
    )
    return sent


def query_string(query: Mapping[str, str]) -> str:
    """Return a query as it is signed, and sent: encoded, and sorted by name."""
    return "&".join(
        f"{name}={value}" for name, value in sorted((uri_encode(n), uri_encode(v)) for n, v in query.items())
    )
