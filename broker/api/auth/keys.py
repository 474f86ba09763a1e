"""The keys that verify tokens: one secret, one public key, or (in `jwks.py`) the published keys of an address."""

from pathlib import Path
from typing import Any, Protocol

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from broker.domain.access.jws import CURVES, KEY_TYPES, is_meant_for
from broker.errors import SettingsInvalid

MIN_RSA_BITS = 2048
"""RFC 7518, sections 3.3 and 3.5."""
_JWK_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
"""The names of curves in a JWK (RFC 7518, section 6.2.1.1), by their names in the library `cryptography`."""

Key = Any
"""A key for PyJWT: bytes for HMAC, otherwise a public key of the library `cryptography`."""


class KeySource(Protocol):
    """A source of keys for tokens."""

    @property
    def generation(self) -> int:
        """Return a number that changes when a key becomes invalid."""

    async def key(self, key_id: str | None) -> Key:
        """Return the key named `key_id`. Raises NotAuthenticated for an unknown one, and KeysUnavailable."""


class FixedKey:
    """One key for every token, whatever `kid` it names."""

    generation = 0

    def __init__(self, key: Key) -> None:
        self._key = key

    async def key(self, key_id: str | None) -> Key:
        """Return the key."""
        return self._key


def public_key(pem_or_path: str, algorithm: str) -> Key:
    """Return the public key in a PEM text, or in the file at a path.

    Raises SettingsInvalid if it cannot be read, or does not fit `algorithm`.
    """
    text = pem_or_path.replace("\\n", "\n")
    try:
        pem = text.encode() if "-----BEGIN" in text else Path(pem_or_path).read_bytes()
        key = load_pem_public_key(pem)
    except (OSError, ValueError, UnsupportedAlgorithm):
        raise SettingsInvalid(
            problems="BROKER_JWT_PUBLIC_KEY: should be a PEM public key, or the path of its file"
        ) from None
    if not fits(key, algorithm):
        raise SettingsInvalid(
            problems=f"BROKER_JWT_PUBLIC_KEY: should be a key for {algorithm}; BROKER_JWT_ALGORITHM sets the algorithm"
        )
    return key


def published_key(jwk: dict[str, Any], algorithm: str) -> Key | None:
    """Return the key in a JWK, or None if it is meant for another use or algorithm.

    Raises any exception if the JWK is malformed.
    """
    if not is_meant_for(jwk, algorithm):
        return None
    key = jwt.PyJWK(jwk, algorithm).key
    if not fits(key, algorithm):
        raise ValueError("the key is too weak, or its curve is another")
    return key


def fits(key: Key, algorithm: str) -> bool:
    """Return whether `key` is a public key that `algorithm` can verify with."""
    match KEY_TYPES.get(algorithm):
        case "RSA":
            return isinstance(key, RSAPublicKey) and key.key_size >= MIN_RSA_BITS
        case "EC":
            return isinstance(key, EllipticCurvePublicKey) and _JWK_CURVES.get(key.curve.name) == CURVES[algorithm]
        case "OKP":
            return isinstance(key, Ed25519PublicKey)
        case _:
            return False
