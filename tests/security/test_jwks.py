"""The keys of an identity provider: fetched rarely, kept during an outage, replaced when they rotate."""

import asyncio
import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from broker.api.auth import jwks
from tests.security import keys
from tests.security.forging import claims, rs256
from tests.security.key_server import KeyServer, running_key_server
from tests.support.serving import bearing, served

RS = {"alg": "RS256", "typ": "JWT"}


@pytest.fixture
def provider() -> Iterator[KeyServer]:
    with running_key_server() as provider:
        yield provider


def deployment(provider: KeyServer, **settings: Any) -> dict[str, Any]:
    return {"jwks_url": provider.url, "jwks_loopback_http": True, "token_memory_seconds": 0, **settings}


def signed(kid: str = "now", key: Any = keys.PROVIDER, **changes: Any) -> dict[str, str]:
    return bearing(rs256(claims(**changes), key, {**RS, "kid": kid}))


def gzipped(document: object) -> dict[str, Any]:
    return {"headers": {"Content-Encoding": "gzip"}, "body": gzip.compress(json.dumps(document).encode())}


async def test_ten_thousand_random_kids_cause_a_few_fetches_and_no_more_within_a_cooldown(
    tmp_path: Path, provider: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "COOLDOWN_SECONDS", 3600.0)  # however long this machine takes for them
    async with served(tmp_path, **deployment(provider)) as client:
        assert (await client.get("/", headers=signed())).status_code == 200
        header = rs256(claims(), keys.ATTACKER, {**RS, "kid": "now"}).partition(".")[2]
        for start in range(0, 10_000, 100):
            answers = await asyncio.gather(
                *(
                    client.get("/", headers=bearing(f"{_head(f'{start}-{number}-{uuid4()}')}.{header}"))
                    for number in range(100)
                )
            )
            assert {answer.status_code for answer in answers} == {401}
        assert (await client.get("/", headers=signed())).status_code == 200
    assert provider.fetches == jwks.FETCHES_IN_A_ROW


async def test_one_unknown_kid_that_is_sent_again_and_again_is_looked_for_once(
    tmp_path: Path, provider: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "COOLDOWN_SECONDS", 3600.0)
    async with served(tmp_path, **deployment(provider)) as client:
        assert (await client.get("/", headers=signed())).status_code == 200
        for _ in range(20):
            assert (await client.get("/", headers=signed("withdrawn", keys.ATTACKER))).status_code == 401
        assert provider.fetches == 2
        provider.keys.append(keys.jwk(keys.NEXT, "next"))
        assert (await client.get("/", headers=signed("next", keys.NEXT))).status_code == 200


async def test_a_bounded_number_of_unknown_kids_is_remembered(
    tmp_path: Path, provider: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "FETCHES_IN_A_ROW", 100)
    monkeypatch.setattr(jwks, "MAX_ABSENT", 2)
    async with served(tmp_path, **deployment(provider)) as client:
        for kid, fetches in [("a", 1), ("b", 2), ("b", 2), ("c", 3), ("a", 4), ("c", 4)]:
            assert (await client.get("/", headers=signed(kid, keys.ATTACKER))).status_code == 401
            assert provider.fetches == fetches, kid


async def test_random_kids_cause_one_fetch_in_each_cooldown(
    tmp_path: Path, provider: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "COOLDOWN_SECONDS", 0.5)
    async with served(tmp_path, **deployment(provider)) as client:
        began = time.monotonic()
        while time.monotonic() < began + 2:
            assert (await client.get("/", headers=signed(f"{uuid4()}", keys.ATTACKER))).status_code == 401
        lasted = time.monotonic() - began
    assert 2 <= provider.fetches <= 1 + jwks.FETCHES_IN_A_ROW + lasted / 0.5


async def test_requests_that_wait_for_keys_share_one_fetch(tmp_path: Path, provider: KeyServer) -> None:
    async with served(tmp_path, **deployment(provider)) as client:
        provider.delay.clear()
        waiting = [asyncio.create_task(client.get("/", headers=signed())) for _ in range(50)]
        await asyncio.sleep(0.3)
        provider.delay.set()
        assert {(await one).status_code for one in waiting} == {200}
    assert provider.fetches == 1


async def test_a_provider_that_is_down_loses_no_valid_caller(
    tmp_path: Path, provider: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "COOLDOWN_SECONDS", 0.0)
    async with served(tmp_path, **deployment(provider, jwks_fresh_seconds=1)) as client:
        assert (await client.get("/", headers=signed())).status_code == 200
        provider.status = 503
        for _ in range(4):
            await asyncio.sleep(0.5)
            assert (await client.get("/", headers=signed())).status_code == 200
        assert provider.fetches > 1
        assert (await client.get("/", headers=signed("unknown"))).status_code == 503


@pytest.mark.parametrize(
    "failure",
    [
        {"status": 500},
        {"status": 302, "headers": {"Location": "http://127.0.0.1:1/other.json"}},
        {"body": b"not JSON"},
        {"body": b"[]"},
        {"body": b'{"keys": 7}'},
        {"body": b"x" * (jwks.MAX_BYTES + 1)},
        {"body": b"[" * 100_000},
        gzipped({"keys": list(keys.PUBLISHED), "padding": "x" * 50_000_000}),
        {**gzipped({"keys": list(keys.PUBLISHED)}), "headers": {"Content-Encoding": "br"}},
        {"body": b"no gzip", "headers": {"Content-Encoding": "gzip"}},
        {**gzipped({}), "body": gzip.compress(json.dumps({"keys": list(keys.PUBLISHED)}).encode())[:-9]},
    ],
    ids=lambda failure: str(failure)[:40],
)
async def test_without_any_keys_the_answer_is_503_not_401(
    tmp_path: Path, provider: KeyServer, failure: dict[str, Any]
) -> None:
    for name, value in failure.items():
        setattr(provider, name, value)
    async with served(tmp_path, **deployment(provider)) as client:
        answer = await client.get("/", headers=signed())
        assert answer.status_code == 503
        assert answer.headers["Retry-After"]


async def test_a_rotated_key_is_used_and_the_withdrawn_one_dropped(
    tmp_path: Path, provider: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "COOLDOWN_SECONDS", 0.0)
    async with served(tmp_path, **deployment(provider, token_memory_seconds=600)) as client:
        assert (await client.get("/", headers=signed())).status_code == 200
        provider.keys = [keys.jwk(keys.NEXT, "next")]
        assert (await client.get("/", headers=signed("next", keys.NEXT))).status_code == 200
        assert (await client.get("/", headers=signed())).status_code == 401


async def test_a_key_that_is_rotated_just_after_a_fetch_is_used_at_once(tmp_path: Path, provider: KeyServer) -> None:
    async with served(tmp_path, **deployment(provider)) as client:
        assert (await client.get("/", headers=signed())).status_code == 200
        provider.keys.append(keys.jwk(keys.NEXT, "next"))
        assert (await client.get("/", headers=signed("next", keys.NEXT))).status_code == 200
    assert provider.fetches == 2


async def test_a_key_that_is_published_during_a_fetch_is_looked_for_again(tmp_path: Path, provider: KeyServer) -> None:
    async with served(tmp_path, **deployment(provider)) as client:
        provider.delay.clear()
        first = asyncio.create_task(client.get("/", headers=signed()))
        while not provider.fetches:
            await asyncio.sleep(0.01)
        provider.keys.append(keys.jwk(keys.NEXT, "next"))
        rotated = asyncio.create_task(client.get("/", headers=signed("next", keys.NEXT)))
        await asyncio.sleep(0.1)
        provider.delay.set()
        assert ((await first).status_code, (await rotated).status_code) == (200, 200)


async def test_gzipped_keys_are_read(tmp_path: Path, provider: KeyServer) -> None:
    for name, value in gzipped({"keys": provider.keys}).items():
        setattr(provider, name, value)
    async with served(tmp_path, **deployment(provider)) as client:
        assert (await client.get("/", headers=signed())).status_code == 200


ODD_MEMBERS: dict[str, dict[str, Any]] = {
    "key_ops is null": {"key_ops": None},
    "key_ops is a number": {"key_ops": 7},
    "the modulus is null": {"n": None},
    "the modulus is a number": {"n": 7},
    "the modulus is not base64": {"n": "ü" * 300},
    "the modulus is empty": {"n": ""},
    "the exponent is an object": {"e": {}},
    "the exponent is huge": {"e": "_" * 20_000},
    "key_ops holds an object": {"use": "sig", "key_ops": [{}]},
    "the use is a list": {"use": ["sig"]},
    "the algorithm is a list": {"alg": ["RS256"]},
    "the type is a list": {"kty": ["RSA"]},
    "private members are odd": {"d": 7, "p": None},
}


@pytest.mark.parametrize("members", ODD_MEMBERS.values(), ids=ODD_MEMBERS)
async def test_an_odd_published_key_is_skipped_and_the_others_stay_in_use(
    tmp_path: Path, provider: KeyServer, monkeypatch: pytest.MonkeyPatch, members: dict[str, Any]
) -> None:
    monkeypatch.setattr(jwks, "COOLDOWN_SECONDS", 0.0)
    odd = keys.jwk(keys.ENCRYPTS, "odd") | members
    provider.keys = [odd, keys.jwk(keys.PROVIDER, "now")]
    async with served(tmp_path, **deployment(provider)) as client:
        with capture_logs() as logs:
            assert (await client.get("/", headers=signed())).status_code == 200
        provider.keys = [odd, keys.jwk(keys.NEXT, "next")]
        assert (await client.get("/", headers=signed("next", keys.NEXT))).status_code == 200
        assert (await client.get("/", headers=signed())).status_code == 401
        assert (await client.get("/", headers=signed("odd", keys.ENCRYPTS))).status_code == 401
    reported = [line["key_id"] for line in logs if line["event"] == "a published key is unusable"]
    is_meant_for_another_use = bool(members.keys() & {"use", "alg", "kty"})
    assert reported == ([] if is_meant_for_another_use else ["odd"])


PROVIDERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Auth0": (
        {"jwt_issuer": "https://tenant.eu.auth0.com/", "jwt_audience": "https://api.example"},
        {
            "iss": "https://tenant.eu.auth0.com/",
            "aud": ["https://api.example", "https://tenant.eu.auth0.com/userinfo"],
            "sub": "auth0|64f1c0ffee",
            "azp": "client",
            "scope": "openid profile",
            "permissions": ["media:upload", "media:read"],
        },
    ),
    "Cognito": (
        {
            "jwt_issuer": "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_Ab",
            "jwt_audience": "4lclient",
            "jwt_audience_claim": "client_id",
            "jwt_permission_prefix": "https://api.example/",
        },
        {
            "iss": "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_Ab",
            "aud": ...,
            "client_id": "4lclient",
            "token_use": "access",
            "sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
            "scope": "https://api.example/media:upload https://api.example/media:read",
        },
    ),
    "Keycloak": (
        {
            "jwt_issuer": "https://id.example/realms/shop",
            "jwt_audience": "broker",
            "jwt_permission_claims": "realm_access.roles",
        },
        {
            "iss": "https://id.example/realms/shop",
            "aud": ["broker", "account"],
            "typ": "Bearer",
            "scope": "openid email",
            "realm_access": {"roles": ["offline_access", "media:upload", "media:read"]},
        },
    ),
    "Keycloak, by the roles of a client": (
        {
            "jwt_issuer": "https://id.example/realms/shop",
            "jwt_permission_claims": "scope,resource_access.shop.media-broker.v2.roles",
        },
        {
            "iss": "https://id.example/realms/shop",
            "aud": ["account"],
            "scope": "openid email",
            "resource_access": {
                "account": {"roles": ["view-profile"]},
                "shop": {"roles": ["media:admin"]},
                "shop.media-broker.v2": {"roles": ["media:upload", "media:read"]},
            },
        },
    ),
    "Django": (
        {"jwt_owner_claim": "user_id", "jwt_default_permissions": "media:upload,media:read"},
        {"sub": ..., "iss": ..., "aud": ..., "scope": ..., "user_id": 42, "token_type": "access", "jti": "5f1e"},
    ),
    "Firebase": (
        {
            "jwt_issuer": "https://securetoken.google.com/shop-1",
            "jwt_audience": "shop-1",
            "jwt_default_permissions": "media:upload,media:read",
        },
        {
            "iss": "https://securetoken.google.com/shop-1",
            "aud": "shop-1",
            "sub": "Zk3fireb4se",
            "scope": ...,
            "auth_time": 1_700_000_000,
            "firebase": {"sign_in_provider": "password", "identities": {}},
        },
    ),
    "Entra": (
        {
            "jwt_issuer": "https://login.microsoftonline.com/tenant/v2.0",
            "jwt_audience": "api://broker",
            "jwt_owner_claim": "oid",
        },
        {
            "iss": "https://login.microsoftonline.com/tenant/v2.0",
            "aud": "api://broker",
            "sub": "pairwise",
            "oid": "99999999-8888-7777-6666-555555555555",
            "scope": ...,
            "scp": "media:upload media:read",
            "ver": "2.0",
        },
    ),
}


@pytest.mark.parametrize("name", PROVIDERS)
async def test_the_tokens_of_a_provider_are_accepted(name: str, tmp_path: Path, provider: KeyServer) -> None:
    settings, changes = PROVIDERS[name]
    async with served(tmp_path, **deployment(provider, **settings)) as client:
        good = signed(**changes)
        answer = await client.post("/upload", json={"content_type": "video/mp4"}, headers=good)
        assert answer.status_code == 201, answer.text
        media_id = answer.json()["media_id"]
        assert (await client.get(f"/{media_id}", headers=good)).status_code == 409
        assert (await client.delete(f"/{media_id}", headers=good)).status_code == 403
        other = signed(**{**changes, "iss": "https://other.example/"})
        assert (await client.get("/", headers=other)).status_code == (401 if "jwt_issuer" in settings else 200)


def _head(kid: str) -> str:
    return rs256({}, keys.WEAK, {**RS, "kid": kid}).partition(".")[0]
