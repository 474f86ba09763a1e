"""The keys that verify tokens: one secret, one public key, or (in `jwks.py`) those that an address publishes."""

from pathlib import Path
from typing import Any, Protocol

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from broker.errors import SettingsInvalid

MIN_RSA_BITS = 2048
"""RFC 7518, section 3.3."""

Key = Any
"""What PyJWT verifies with: bytes for HS256, else a public key of cryptography's."""


class KeySource(Protocol):
    """Give the key for a token."""

    @property
    def generation(self) -> int:
        """Return a number that changes when a key is no longer valid."""

    async def key(self, key_id: str | None) -> Key:
        """Return the key named `key_id`. Raises NotAuthenticated for an unknown one, and KeysUnavailable."""


class FixedKey:
    """Verify every token with one key, whatever `kid` it names."""

    generation = 0

    def __init__(self, key: Key) -> None:
        self._key = key

    async def key(self, key_id: str | None) -> Key:
        """Return the key."""
        return self._key


def public_key(pem_or_path: str, algorithm: str) -> Key:
    """Return the public key in a PEM text, or in the file that a path names.

    Raises SettingsInvalid where there is none, or one that `algorithm` cannot use.
    """
    text = pem_or_path.replace("\\n", "\n")
    try:
        pem = text.encode() if "-----BEGIN" in text else Path(pem_or_path).read_bytes()
        key = load_pem_public_key(pem)
    except (OSError, ValueError, UnsupportedAlgorithm):
        raise SettingsInvalid(problems="BROKER_JWT_PUBLIC_KEY: should be a PEM public key, or a file of one") from None
    if not fits(key, algorithm):
        raise SettingsInvalid(problems=f"BROKER_JWT_PUBLIC_KEY: should be a key for {algorithm}")
    return key


def published_key(jwk: dict[str, Any], algorithm: str) -> Key | None:
    """Return the key in a JWK, or None where it is not meant for verifying with `algorithm`.

    Source: RFC 7517, sections 4.1 to 4.4.
    """
    verifies = jwk.get("use", "sig") == "sig" and "verify" in jwk.get("key_ops", ["verify"])
    if not verifies or jwk.get("alg", algorithm) != algorithm:
        return None
    try:
        key = jwt.PyJWK(jwk, algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    return key if fits(key, algorithm) else None


def fits(key: Key, algorithm: str) -> bool:
    """Tell whether `algorithm` verifies with this kind of public key; a secret or a private key never fits."""
    match algorithm:
        case "RS256":
            return isinstance(key, RSAPublicKey) and key.key_size >= MIN_RSA_BITS
        case "ES256":
            return isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)
        case "EdDSA":
            return isinstance(key, Ed25519PublicKey)
        case _:
            return False
