"""The keys of the tests, created once: ours, the provider's, and an attacker's."""

from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

PROVIDER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
NEXT = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ENCRYPTS = rsa.generate_private_key(public_exponent=65537, key_size=2048)
WEAK = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 that it is refused is the test
ATTACKER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ELLIPTIC = ec.generate_private_key(ec.SECP256R1())
EDWARDS = ed25519.Ed25519PrivateKey.generate()
SHARED = "an oct key in a JWKS is never ours to use"


def jwk(key: Any, kid: str, algorithm: str = "RS256", **members: Any) -> dict[str, Any]:
    """Return the JWK of a public key."""
    made: Any = jwt.get_algorithm_by_name(algorithm)
    return {**made.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig", "alg": algorithm, **members}


def pem(key: Any) -> str:
    """Return a public key as PEM."""
    found: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return found.decode()


def der(key: Any) -> bytes:
    """Return a public key as DER."""
    found: bytes = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return found


PUBLISHED = (
    jwk(PROVIDER, "now"),
    jwk(ENCRYPTS, "encrypts", use="enc"),
    jwk(WEAK, "weak"),
    jwk(ELLIPTIC, "elliptic", "ES256"),
    {"kty": "oct", "kid": "shared", "k": "YW4gb2N0IGtleSBpbiBhIEpXS1MgaXMgbmV2ZXIgb3VycyB0byB1c2U", "alg": "HS256"},
)
