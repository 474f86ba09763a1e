"""Permissions on every route: two owners, an administrator, and callers without a token."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio

from tests.support.serving import ALL, bearing, issued, served, token

ROUTES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "issue": ("POST", "/upload", {"json": {"content_type": "video/mp4"}}),
    "complete": ("POST", "/{media_id}/complete", {}),
    "playback": ("GET", "/{media_id}", {}),
    "list": ("GET", "/", {}),
    "rules": ("GET", "/rules", {}),
    "delete": ("DELETE", "/{media_id}", {}),
}
OF_A_MEDIA = [name for name, (_, path, _) in ROUTES.items() if "{media_id}" in path]
NEEDED = {
    "issue": "media:upload",
    "complete": "media:upload",
    "playback": "media:read",
    "list": "media:read",
    "rules": "media:upload",
    "delete": "media:delete",
}
FOR_ITS_OWNER = {"issue": 201, "complete": 503, "playback": 409, "list": 200, "rules": 200, "delete": 200}
"""503: the application of these tests has no S3, so that an admitted request shows as this status."""


@pytest_asyncio.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with served(tmp_path) as client:
        yield client


async def ask(client: httpx.AsyncClient, route: str, media_id: object, caller: str) -> httpx.Response:
    method, path, body = ROUTES[route]
    return await client.request(method, path.format(media_id=media_id), headers=bearing(caller), **body)


def without_request_id(answer: httpx.Response) -> tuple[int, bytes, list[tuple[str, str]]]:
    headers = [(name, value) for name, value in answer.headers.multi_items() if name != "x-request-id"]
    return answer.status_code, answer.content, headers


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("scope", ["the one needed", "media:*", ALL])
async def test_an_owner_may(route: str, scope: str, client: httpx.AsyncClient) -> None:
    anna = token("anna", NEEDED[route] if scope == "the one needed" else scope)
    media_id = await issued(client, bearing(token("anna")))
    assert (await ask(client, route, media_id, anna)).status_code == FOR_ITS_OWNER[route]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("scope", [None, "", "openid", "media", "media:", "Media:Upload", "xmedia:upload"])
async def test_a_token_without_the_permission_gets_403_and_changes_nothing(
    route: str, scope: str | None, client: httpx.AsyncClient
) -> None:
    media_id = await issued(client, bearing(token("anna")))
    before = (await client.get("/", headers=bearing(token("anna")))).json()
    answer = await ask(client, route, media_id, token("anna", scope))
    assert answer.status_code == 403
    assert answer.headers["WWW-Authenticate"] == (
        f'Bearer realm="s3-media", error="insufficient_scope", scope="{NEEDED[route]}"'
    )
    assert (await client.get("/", headers=bearing(token("anna")))).json() == before


@pytest.mark.parametrize("route", ROUTES)
async def test_every_other_permission_is_not_enough(route: str, client: httpx.AsyncClient) -> None:
    media_id = await issued(client, bearing(token("anna")))
    others = " ".join(set(ALL.split()) - {NEEDED[route]})
    assert (await ask(client, route, media_id, token("anna", others))).status_code == 403


@pytest.mark.parametrize("route", OF_A_MEDIA)
@pytest.mark.parametrize("state", ["pending", "deleting"])
async def test_a_foreign_media_is_the_same_404_as_an_absent_one(
    route: str, state: str, client: httpx.AsyncClient
) -> None:
    media_id = await issued(client, bearing(token("anna")))
    if state == "deleting":
        assert (await client.delete(f"/{media_id}", headers=bearing(token("anna")))).status_code == 200
    foreign = await ask(client, route, media_id, token("berta"))
    absent = await ask(client, route, uuid4(), token("berta"))
    assert foreign.status_code == 404
    assert without_request_id(foreign) == without_request_id(absent)


@pytest.mark.parametrize("route", OF_A_MEDIA)
async def test_an_administrator_can_access_the_media_of_all_owners(route: str, client: httpx.AsyncClient) -> None:
    media_id = await issued(client, bearing(token("anna")))
    assert (await ask(client, route, media_id, token("carla", "media:admin"))).status_code == FOR_ITS_OWNER[route]
    assert (await ask(client, route, uuid4(), token("carla", "media:admin"))).status_code == 404


async def test_a_list_is_the_callers_own_also_for_an_administrator(client: httpx.AsyncClient) -> None:
    of_anna = await issued(client, bearing(token("anna")))
    of_carla = await issued(client, bearing(token("carla", "media:admin")))
    for owner, scope, seen in [
        ("anna", ALL, [of_anna]),
        ("berta", ALL, []),
        ("carla", "media:admin", [of_carla]),
    ]:
        page = (await client.get("/", headers=bearing(token(owner, scope)))).json()
        assert [media["media_id"] for media in page["media"]] == seen


async def test_a_media_without_access_is_never_deleted(client: httpx.AsyncClient) -> None:
    media_id = await issued(client, bearing(token("anna")))
    for caller in (token("berta"), token("anna", "media:read media:upload")):
        assert (await client.delete(f"/{media_id}", headers=bearing(caller))).status_code in (403, 404)
    assert (await client.get(f"/{media_id}", headers=bearing(token("anna")))).status_code == 409
