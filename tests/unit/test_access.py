"""The rules for callers: owners' names, and the keys that may verify an algorithm's signatures."""

from typing import Any

import pytest

from broker.domain.access.jws import is_meant_for
from broker.domain.access.owners import is_owner


@pytest.mark.parametrize(
    ("name", "accepted"),
    [
        ("a", True),
        ("a" * 255, True),
        ("anna b", True),
        ("jörg", True),
        ("", False),
        ("a" * 256, False),
        (" anna", False),
        ("anna ", False),
        ("an\nna", False),
        ("an\x00na", False),
        (None, False),
        (7, False),
        (b"anna", False),
    ],
)
def test_an_owner_is_a_printable_text_without_spaces_around_it(name: object, accepted: bool) -> None:
    assert is_owner(name) is accepted


RSA: dict[str, Any] = {"kty": "RSA", "alg": "RS256", "use": "sig", "key_ops": ["verify"]}
EC: dict[str, Any] = {"kty": "EC", "crv": "P-256"}
OKP: dict[str, Any] = {"kty": "OKP", "crv": "Ed25519"}


@pytest.mark.parametrize(
    ("jwk", "algorithm", "accepted"),
    [
        (RSA, "RS256", True),
        ({"kty": "RSA"}, "PS512", True),
        ({"kty": "RSA"}, "RS384", True),
        (RSA, "RS512", False),
        (RSA | {"kty": "oct"}, "RS256", False),
        ({"alg": "RS256"}, "RS256", False),
        (RSA | {"use": "enc"}, "RS256", False),
        (RSA | {"key_ops": ["sign"]}, "RS256", False),
        (RSA | {"key_ops": ["sign", "verify"]}, "RS256", True),
        (RSA | {"key_ops": []}, "RS256", False),
        (EC, "ES256", True),
        (EC, "ES384", False),
        ({"kty": "EC"}, "ES256", False),
        (EC | {"crv": "P-384"}, "ES384", True),
        (EC | {"crv": "P-521"}, "ES512", True),
        (EC, "RS256", False),
        (OKP, "EdDSA", True),
        (OKP | {"crv": "Ed448"}, "EdDSA", False),
        (OKP | {"alg": "EdDSA"}, "EdDSA", True),
    ],
)
def test_a_key_verifies_only_the_algorithms_that_it_is_meant_for(
    jwk: dict[str, Any], algorithm: str, accepted: bool
) -> None:
    assert is_meant_for(jwk, algorithm) is accepted
