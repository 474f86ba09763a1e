"""Tokens that identity providers really send: their algorithms, clocks and claims."""

import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from broker.api.auth.tokens import EARLY_SECONDS, MAX_TOKEN_LENGTH
from broker.domain.access.jws import KEY_TYPES, SECRET_BYTES
from broker.errors import SettingsInvalid
from tests.security import keys
from tests.security.forging import claims, hs256
from tests.security.key_server import running_key_server
from tests.support.serving import SECRET, bearing, served, settings_of

LONG_SECRET = "a secret of at least sixty-four bytes, which is what HS512 requires of one"
P384, P521 = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP521R1())
SIGNING = {
    **dict.fromkeys(("HS256", "HS384", "HS512"), LONG_SECRET),
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), keys.PROVIDER),
    "ES256": keys.ELLIPTIC,
    "ES384": P384,
    "ES512": P521,
    "EdDSA": keys.EDWARDS,
}


def signed(algorithm: str, key: Any, kid: str | None = None, **changes: Any) -> dict[str, str]:
    return bearing(jwt.encode(claims(**changes), key, algorithm, {"kid": kid} if kid else None))


def by_secret(**changes: Any) -> dict[str, str]:
    return bearing(hs256(claims(**changes), SECRET.encode()))


def test_every_algorithm_has_a_key_in_these_tests() -> None:
    assert SIGNING.keys() == {*KEY_TYPES, *SECRET_BYTES}


@pytest.mark.parametrize("algorithm", SIGNING)
async def test_a_fixed_key_verifies_tokens_of_its_algorithm_alone(algorithm: str, tmp_path: Path) -> None:
    key = SIGNING[algorithm]
    source = {"secret_key": key} if isinstance(key, str) else {"jwt_public_key": keys.pem(key)}
    async with served(tmp_path, jwt_algorithm=algorithm, **source) as client:
        assert (await client.get("/", headers=signed(algorithm, key))).status_code == 200
        for other in SIGNING.keys() - {algorithm}:
            answer = await client.get("/", headers=signed(other, SIGNING[other]))
            assert (answer.status_code, answer.json()["detail"]) == (
                401,
                f"The request needs a valid bearer token: its algorithm is not {algorithm}.",
            )


@pytest.mark.parametrize("algorithm", KEY_TYPES)
async def test_a_published_key_verifies_tokens_of_its_algorithm(algorithm: str, tmp_path: Path) -> None:
    with running_key_server() as provider:
        provider.keys = [keys.jwk(SIGNING[each], each, each) for each in KEY_TYPES]
        async with served(tmp_path, jwt_algorithm=algorithm, jwks_url=provider.url, jwks_loopback_http=True) as client:
            good = signed(algorithm, SIGNING[algorithm], algorithm)
            assert (await client.get("/", headers=good)).status_code == 200
            for other in KEY_TYPES.keys() - {algorithm}:
                bad = signed(algorithm, SIGNING[algorithm], other)
                assert (await client.get("/", headers=bad)).status_code == 401


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_a_secret_shorter_than_its_hash_is_refused(algorithm: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match=f"SECRET_KEY: .* at least {SECRET_BYTES[algorithm]} bytes"):
        settings_of(tmp_path, jwt_algorithm=algorithm, secret_key="a secret of 40 bytes, long for HS256 only")


@pytest.mark.parametrize(
    ("leeway", "claim", "by", "status"),
    [
        (None, "iat", EARLY_SECONDS - 1, 200),
        (None, "nbf", EARLY_SECONDS - 1, 200),
        (None, "iat", EARLY_SECONDS + 5, 401),
        (None, "nbf", EARLY_SECONDS + 5, 401),
        (None, "exp", -1, 401),
        (0, "iat", 3, 401),
        (0, "nbf", 3, 401),
        (0, "exp", -1, 401),
        (60, "iat", 50, 200),
        (60, "nbf", 50, 200),
        (60, "exp", -50, 200),
        (60, "exp", -61, 401),
    ],
)
async def test_a_clock_that_differs_a_little_is_tolerated(
    leeway: int | None, claim: str, by: int, status: int, tmp_path: Path
) -> None:
    async with served(tmp_path, jwt_leeway_seconds=leeway) as client:
        token = by_secret(**{claim: int(time.time()) + by})
        assert (await client.get("/", headers=token)).status_code == status


async def test_the_owner_claim_alone_is_required(tmp_path: Path) -> None:
    async with served(tmp_path, jwt_owner_claim="user_id") as client:
        ids = {}
        for name, token in {
            "text": by_secret(sub=..., user_id="42"),
            "number": by_secret(sub=..., user_id=42),
            "odd subject": by_secret(sub=7, user_id="42"),
        }.items():
            answer = await client.post("/upload", json={"content_type": "video/mp4"}, headers=token)
            assert answer.status_code == 201, answer.text
            ids[name] = answer.json()["media_id"]
        listed = (await client.get("/", headers=by_secret(sub="anna", user_id="42", scope="media:read"))).json()
        assert {media["media_id"] for media in listed["media"]} == set(ids.values())


@pytest.mark.parametrize("value", [..., None, "", True, 4.2, ["42"], {}, "a" * 256, " 42"], ids=repr)
async def test_a_token_without_a_valid_owner_claim_is_refused_by_its_name(value: Any, tmp_path: Path) -> None:
    async with served(tmp_path, jwt_owner_claim="user_id") as client:
        answer = await client.get("/", headers=by_secret(sub="anna", user_id=value))
        assert answer.status_code == 401
        assert "its claim user_id, which names the owner, is missing or not valid" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        ({"jwt_owner_claim": "user.uid"}, {"sub": ..., "user": {"uid": "anna"}}),
        ({"jwt_owner_claim": "https://shop.example/uid"}, {"sub": ..., "https://shop.example/uid": "anna"}),
        ({"jwt_audience": "shop", "jwt_audience_claim": "client.my.id"}, {"aud": ..., "client": {"my.id": "shop"}}),
        ({"jwt_permission_claims": "a.b.c"}, {"scope": ..., "a": {"b": {"c": "media:read"}}}),
        ({"jwt_permission_claims": "a.b.c"}, {"scope": ..., "a.b": {"c": "media:read"}, "a": {"b": 7}}),
        ({"jwt_permission_claims": "a.b.c"}, {"scope": ..., "a": {"b.c": "media:read", "b": {"c": None}}}),
        ({"jwt_permission_claims": "a.b.c"}, {"scope": ..., "a.b.c": "media:read", "a": {"b.c": "none"}}),
    ],
    ids=str,
)
async def test_a_claim_is_found_by_its_path(settings: dict[str, Any], changes: dict[str, Any], tmp_path: Path) -> None:
    async with served(tmp_path, **settings) as client:
        assert (await client.get("/", headers=by_secret(**changes))).status_code == 200


async def test_a_token_that_is_too_long_is_told_so(tmp_path: Path) -> None:
    async with served(tmp_path) as client:
        answer = await client.get("/", headers=by_secret(groups=["group"] * 1000))
        assert answer.status_code == 401
        assert answer.json()["detail"].endswith(f"it is longer than {MAX_TOKEN_LENGTH} bytes.")
