"""The algorithms that may sign tokens, and the keys that each one needs.

Sources: RFC 7518, sections 3.1 ("alg" values for JWS) and 6.1 ("kty" values); RFC 8037 (EdDSA).
"""

from collections.abc import Mapping
from typing import Any, Literal

Algorithm = Literal[
    "HS256",
    "HS384",
    "HS512",
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
]
SECRET_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
"""The minimum length of a shared secret: the hash's output size (RFC 7518, section 3.2)."""
KEY_TYPES = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
    "EdDSA": "OKP",
}
"""The type of public key (`kty`) for each algorithm that has one."""
CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "Ed25519"}
"""The curve (`crv`) that an algorithm's key is on. Of EdDSA's two curves, only Ed25519 is supported."""


def is_meant_for(jwk: Mapping[str, Any], algorithm: str) -> bool:
    """Return whether a published key may verify signatures of `algorithm`, by its type, curve, algorithm and use.

    Raises TypeError if a member is malformed. Source: RFC 7517, sections 4.1 to 4.4.
    """
    if jwk.get("kty") != KEY_TYPES[algorithm] or jwk.get("alg", algorithm) != algorithm:
        return False
    if algorithm in CURVES and jwk.get("crv") != CURVES[algorithm]:
        return False
    return jwk.get("use", "sig") == "sig" and "verify" in jwk.get("key_ops", ["verify"])
