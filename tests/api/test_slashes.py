"""A missing or extra slash never causes a redirect."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from broker.app import create_app
from tests.support.serving import bearing, client_of, issued, served, settings_of, token

HEADERS = bearing(token())


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client whose base is the prefix of the routes."""
    async with served(tmp_path) as client:
        yield client


async def test_a_list_needs_no_slash(client: httpx.AsyncClient) -> None:
    media_id = await issued(client, HEADERS)
    address = str(client.base_url).rstrip("/")
    for path in (address, f"{address}/"):
        answer = await client.get(path, headers=HEADERS, params={"limit": 1})
        assert [media["media_id"] for media in answer.json()["media"]] == [media_id]
        assert (await client.get(path)).json()["type"].endswith("not-authenticated")
        assert (await client.get(path, headers=HEADERS, params={"limit": 0})).status_code == 422
        assert (await client.post(path, headers=HEADERS)).status_code == 405


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PUT"])
async def test_a_slash_too_many_is_an_unknown_path(client: httpx.AsyncClient, method: str) -> None:
    address, media_id = str(client.base_url).rstrip("/"), uuid4()
    paths = ("/upload/", "/upload//", f"/{media_id}/", f"/{media_id}/complete/", f"/{media_id}/uploaded/x/", "//")
    for path in (*paths, "/healthz/", "/readyz/", "/health/s3/", "/broker-upload.js/"):
        answer = await client.request(method, f"{address}{path}", headers=HEADERS)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json"), path
        assert answer.json()["success"] is False
        assert "location" not in answer.headers


async def test_paths_outside_the_prefix_are_not_redirected(tmp_path: Path) -> None:
    async with client_of(create_app(settings_of(tmp_path))) as client:
        for path in ("/healthz/", "/docs/", "/metrics/", "/openapi.json/"):
            answer = await client.get(path)
            assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
