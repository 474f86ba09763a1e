"""Tokens put together by hand, so that any part may be invalid."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

ISSUER = "https://login.example/"
AUDIENCE = "broker"


def encoded(data: bytes | str | dict[str, Any] | list[Any]) -> str:
    """Return base64url without padding; an object becomes JSON first."""
    if isinstance(data, dict | list):
        data = json.dumps(data)
    raw = data.encode(errors="surrogatepass") if isinstance(data, str) else data
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def claims(**changes: Any) -> dict[str, Any]:
    """Return claims that are accepted; a change to `...` removes one."""
    now = int(time.time())
    found = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "anna",
        "iat": now,
        "nbf": now,
        "exp": now + 600,
        "scope": "media:upload media:read media:delete media:admin",
        **changes,
    }
    return {name: value for name, value in found.items() if value is not ...}


def hs256(
    payload: dict[str, Any] | str | bytes,
    secret: bytes,
    header: dict[str, Any] | str | None = None,
    digest: Any = hashlib.sha256,
) -> str:
    """Return a token whose HMAC is right, whatever its header says."""
    head = {"alg": "HS256", "typ": "JWT"} if header is None else header
    signed = f"{encoded(head)}.{encoded(payload)}"
    return f"{signed}.{encoded(hmac.new(secret, signed.encode(), digest).digest())}"


def rs256(
    payload: dict[str, Any],
    key: rsa.RSAPrivateKey,
    header: dict[str, Any],
    *,
    algorithm: hashes.HashAlgorithm | None = None,
    pss: bool = False,
) -> str:
    """Return a token with an RSA signature."""
    signed = f"{encoded(header)}.{encoded(payload)}"
    pad = padding.PSS(padding.MGF1(hashes.SHA256()), 32) if pss else padding.PKCS1v15()
    return f"{signed}.{encoded(key.sign(signed.encode(), pad, algorithm or hashes.SHA256()))}"


def es256(
    payload: dict[str, Any], key: ec.EllipticCurvePrivateKey, header: dict[str, Any], *, der: bool = False
) -> str:
    """Return a token with an ECDSA signature, raw (r and s) or in DER."""
    signed = f"{encoded(header)}.{encoded(payload)}"
    signature = key.sign(signed.encode(), ec.ECDSA(hashes.SHA256()))
    if not der:
        size = (key.curve.key_size + 7) // 8
        signature = b"".join(part.to_bytes(size) for part in decode_dss_signature(signature))
    return f"{signed}.{encoded(signature)}"


def eddsa(
    payload: dict[str, Any], key: ed25519.Ed25519PrivateKey, header: dict[str, Any], *, malleable: bool = False
) -> str:
    """Return a token with an Ed25519 signature; `malleable` adds the group's order to S (RFC 8032, section 8.4)."""
    signed = f"{encoded(header)}.{encoded(payload)}"
    signature = key.sign(signed.encode())
    if malleable:
        order = 2**252 + 27742317777372353535851937790883648493
        signature = signature[:32] + (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")
    return f"{signed}.{encoded(signature)}"


def with_parts(token: str, *, head: Any = None, payload: Any = None, signature: bytes | str | None = None) -> str:
    """Return a token with some of its three parts exchanged."""
    first, second, third = token.split(".")
    return ".".join(
        [
            first if head is None else encoded(head),
            second if payload is None else encoded(payload),
            third if signature is None else encoded(signature),
        ]
    )
