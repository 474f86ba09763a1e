"""The erasure of an owner: for administrators alone, and never of more than was asked."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from tests.support.serving import ALL, bearing, issued, served, token

ADMIN = "media:admin"


@pytest_asyncio.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with served(tmp_path) as client:
        yield client


async def listed(client: httpx.AsyncClient, owner: str) -> list[str]:
    page = (await client.get("/", headers=bearing(token(owner)))).json()
    return [media["media_id"] for media in page["media"]]


@pytest.mark.parametrize("scope", [ALL, "media:*", "media:delete", "media:delegate", ""])
async def test_no_other_permission_erases_anyone_not_even_oneself(scope: str, client: httpx.AsyncClient) -> None:
    media_id = await issued(client, bearing(token("anna")))
    answer = await client.delete("/", params={"owner": "anna"}, headers=bearing(token("anna", scope)))
    assert answer.status_code == 403
    assert answer.json()["type"].endswith("permission-missing")
    assert await listed(client, "anna") == [media_id]


async def test_without_a_token_no_owner_is_erased(client: httpx.AsyncClient) -> None:
    media_id = await issued(client, bearing(token("anna")))
    assert (await client.delete("/", params={"owner": "anna"})).status_code == 401
    assert await listed(client, "anna") == [media_id]


@pytest.mark.parametrize("path", ["/", ""])
async def test_an_administrator_erases_one_owner_and_no_other(path: str, client: httpx.AsyncClient) -> None:
    gone = [await issued(client, bearing(token("anna"))) for _ in range(3)]
    kept = await issued(client, bearing(token("berta")))
    admin = bearing(token("carla", ADMIN))
    for _ in range(2):
        answer = await client.delete(path, params={"owner": "anna"}, headers=admin)
        assert answer.status_code == 202
        assert answer.json() == {
            "success": True,
            "owner": "anna",
            "media_left": 3,
            "message": "The owner is being erased.",
        }
    assert await listed(client, "anna") == []
    assert (await client.get(f"/{gone[0]}", headers=admin)).status_code == 404
    assert await listed(client, "berta") == [kept]


async def test_an_owner_without_media_is_erased_at_once(client: httpx.AsyncClient) -> None:
    answer = await client.delete("/", params={"owner": "dora"}, headers=bearing(token("carla", ADMIN)))
    assert answer.json() == {"success": True, "owner": "dora", "media_left": 0, "message": "The owner is erased."}


@pytest.mark.parametrize("query", ["", "?owner=", "?owner=%20anna", "?owner=" + "a" * 256, "?owner=a%00", "?user=anna"])
async def test_an_owner_must_be_named(query: str, client: httpx.AsyncClient) -> None:
    media_id = await issued(client, bearing(token("anna")))
    answer = await client.delete(f"/{query}", headers=bearing(token("anna", f"{ALL} {ADMIN}")))
    assert answer.status_code == 422
    assert "query.owner" in answer.text
    assert await listed(client, "anna") == [media_id]
