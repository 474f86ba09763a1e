"""A bad token is refused on every route, and changes nothing."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.security import keys
from tests.security.bad_tokens import BAD_TOKENS, EC, ED, NOW, BadToken
from tests.security.forging import AUDIENCE, ISSUER, claims, eddsa, es256, hs256, rs256
from tests.security.key_server import running_key_server
from tests.support.serving import SECRET, bearing, issued, served

GOOD = {
    "HS256": lambda: hs256(claims(), SECRET.encode()),
    "RS256": lambda: rs256(claims(), keys.PROVIDER, NOW),
    "ES256": lambda: es256(claims(), keys.ELLIPTIC, EC),
    "EdDSA": lambda: eddsa(claims(), keys.EDWARDS, ED),
}


@dataclass
class Deployment:
    """One broker, and the media that its owner has in it."""

    client: httpx.AsyncClient
    good: str
    media_id: str

    async def media(self) -> Any:
        answer = await self.client.get("/", headers=bearing(self.good))
        assert answer.status_code == 200
        return answer.json()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def deployments(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, Deployment]]:
    """Serve one broker for each algorithm."""
    with running_key_server() as provider:
        configured: dict[str, dict[str, Any]] = {
            "HS256": {},
            "RS256": {"jwks_url": provider.url, "jwks_loopback_http": True},
            "ES256": {"jwt_algorithm": "ES256", "jwt_public_key": keys.pem(keys.ELLIPTIC)},
            "EdDSA": {"jwt_algorithm": "EdDSA", "jwt_public_key": keys.pem(keys.EDWARDS)},
        }
        found: dict[str, Deployment] = {}
        contexts = []
        for algorithm, settings in configured.items():
            folder: Path = tmp_path_factory.mktemp(algorithm)
            context = served(folder, jwt_issuer=ISSUER, jwt_audience=AUDIENCE, **settings)
            client = await context.__aenter__()
            contexts.append(context)
            good = GOOD[algorithm]()
            found[algorithm] = Deployment(client, good, await issued(client, bearing(good)))
        yield found
        for context in contexts:
            await context.__aexit__(None, None, None)


def routes(media_id: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Return a request of each route that needs a token."""
    return [
        ("POST", "/upload", {"json": {"content_type": "video/mp4"}}),
        ("POST", f"/{media_id}/complete", {}),
        ("GET", f"/{media_id}", {}),
        ("GET", "/", {}),
        ("DELETE", f"/{media_id}", {}),
    ]


def test_the_corpus_is_large() -> None:
    assert len(BAD_TOKENS) >= 150
    assert len({(bad.deployment, bad.wrong) for bad in BAD_TOKENS}) == len(BAD_TOKENS)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "bad", BAD_TOKENS, ids=lambda bad: f"{bad.deployment}: {bad.wrong}".encode("ascii", "replace").decode()
)
async def test_a_bad_token_gets_401_on_every_route(bad: BadToken, deployments: dict[str, Deployment]) -> None:
    deployment = deployments[bad.deployment]
    before = await deployment.media()
    header = (b"Authorization", b"Bearer " + bad.make().encode("latin-1"))
    for method, path, body in routes(deployment.media_id):
        answer = await deployment.client.request(method, path, headers=[header], **body)
        assert answer.status_code == 401, f"{method} {path}: {answer.text}"
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="s3-media", error="invalid_token"'
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["type"] == "urn:s3-media:problem:not-authenticated"
    assert await deployment.media() == before


@pytest.mark.asyncio(loop_scope="module")
async def test_a_challenge_without_a_token_names_no_error(deployments: dict[str, Deployment]) -> None:
    deployment = deployments["HS256"]
    for method, path, body in routes(deployment.media_id):
        answer = await deployment.client.request(method, path, **body)
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="s3-media"')


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "headers",
    [
        [("Authorization", "Basic {}")],
        [("Authorization", "{}")],
        [("Authorization", "Bearer")],
        [("Authorization", "Bearer{}")],
        [("Authorization", "Token {}")],
        [("Authorization", "Bearer {}"), ("Authorization", "Bearer {}")],
        [("Cookie", "access_token={}")],
        [("X-Access-Token", "{}")],
    ],
    ids=str,
)
async def test_a_valid_token_counts_only_in_a_single_authorization_header(
    headers: list[tuple[str, str]], deployments: dict[str, Deployment]
) -> None:
    deployment = deployments["HS256"]
    sent = [(name, value.format(deployment.good)) for name, value in headers]
    assert (await deployment.client.get("/", headers=sent)).status_code == 401


@pytest.mark.asyncio(loop_scope="module")
async def test_a_token_in_the_query_or_the_body_is_ignored(deployments: dict[str, Deployment]) -> None:
    deployment = deployments["HS256"]
    assert (await deployment.client.get("/", params={"access_token": deployment.good})).status_code == 401
    answer = await deployment.client.post("/upload", data={"access_token": deployment.good})
    assert answer.status_code == 401


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("algorithm", GOOD)
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer  "], ids=repr)
async def test_a_valid_token_is_accepted(algorithm: str, scheme: str, deployments: dict[str, Deployment]) -> None:
    headers = {"Authorization": f"{scheme} {GOOD[algorithm]()}"}
    assert (await deployments[algorithm].client.get("/", headers=headers)).status_code == 200


@pytest.mark.asyncio(loop_scope="module")
async def test_a_body_is_not_read_before_the_token_is_verified(deployments: dict[str, Deployment]) -> None:
    async def endless() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    answer = await deployments["HS256"].client.post("/upload", content=endless())
    assert answer.status_code == 401


ODD_PERMISSIONS = [7, True, {}, {"media:read": True}, [], [7], [["media:read"]], [{"media:read": 1}], "", " ", "media"]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("claim", ["scope", "scp", "permissions"])
@pytest.mark.parametrize("value", ODD_PERMISSIONS, ids=repr)
async def test_an_odd_claim_of_permissions_grants_nothing(
    claim: str, value: Any, deployments: dict[str, Deployment]
) -> None:
    raw = hs256(claims(**{"scope": ..., claim: value}), SECRET.encode())
    answer = await deployments["HS256"].client.get("/", headers={"Authorization": f"Bearer {raw}"})
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:s3-media:problem:permission-missing")


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("value", [None, 7, {}, ["x"], "x" * 300], ids=lambda value: repr(value)[:20])
async def test_an_odd_claim_that_is_not_read_changes_nothing(value: Any, deployments: dict[str, Deployment]) -> None:
    odd = dict.fromkeys(("azp", "client_id", "realm_access", "resource_access", "email", "name"), value)
    raw = hs256(claims(**odd), SECRET.encode())
    answer = await deployments["HS256"].client.get("/", headers={"Authorization": f"Bearer {raw}"})
    assert answer.status_code == 200
