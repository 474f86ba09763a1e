"""The links in responses: their lifetime, whether they download, and the metadata beside them."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from broker.dev.s3 import EmbeddedS3
from tests.support.serving import bearing, on_s3, served, token

HEADERS = bearing(token())


@pytest.fixture
async def client(tmp_path: Path, embedded_s3: EmbeddedS3, bucket: str) -> AsyncIterator[httpx.AsyncClient]:
    async with served(
        tmp_path,
        **(on_s3(embedded_s3, bucket) | {"s3_timeout_seconds": 10}),
    ) as client:
        client.headers.update(HEADERS)
        yield client


async def completed(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    """Upload a file and return the response of `complete`."""
    answer = await client.post("/upload", json={"content_type": "video/mp4", "filename": "holiday.mp4", **body})
    assert answer.status_code == 201, answer.text
    form = answer.json()["upload"]
    async with httpx.AsyncClient() as s3:
        posted = await s3.post(form["url"], data=form["fields"], files={"file": b"0123456789"})
    assert posted.is_success, posted.text
    ready = await client.post(f"/{answer.json()['media_id']}/complete")
    assert ready.status_code == 200, ready.text
    document: dict[str, Any] = ready.json()
    return document


def query_of(link: dict[str, Any]) -> dict[str, list[str]]:
    return parse_qs(urlsplit(link["signed_url"]).query)


async def test_the_link_of_complete_plays_and_does_not_download(client: httpx.AsyncClient) -> None:
    ready = await completed(client)
    assert "response-content-disposition" not in query_of(ready)
    assert ready["expires_in"] == int(query_of(ready)["X-Amz-Expires"][0]) == 3600
    async with httpx.AsyncClient() as player:
        played = await player.get(ready["signed_url"])
    assert (played.content, "content-disposition" in played.headers) == (b"0123456789", False)


@pytest.mark.parametrize(("download", "disposition"), [("false", None), ("true", "attachment; filename=")])
async def test_a_link_downloads_if_requested(client: httpx.AsyncClient, download: str, disposition: str | None) -> None:
    media_id = (await completed(client))["media_id"]
    link = (await client.get(f"/{media_id}", params={"download": download})).json()
    sent = query_of(link).get("response-content-disposition", [None])[0]
    assert sent is None if disposition is None else (sent or "").startswith(disposition)


async def test_a_link_lives_from_one_second_to_a_day(client: httpx.AsyncClient) -> None:
    media_id = (await completed(client))["media_id"]
    statuses = {}
    for seconds in (-1, 0, 1, 86_399, 86_400, 86_401):
        answer = await client.get(f"/{media_id}", params={"expires_in": seconds})
        statuses[seconds] = answer.status_code
        if answer.status_code == 200:
            assert answer.json()["expires_in"] == int(query_of(answer.json())["X-Amz-Expires"][0]) == seconds
    assert statuses == {-1: 422, 0: 422, 1: 200, 86_399: 200, 86_400: 200, 86_401: 422}


@pytest.mark.parametrize(("length", "status"), [(1019, 201), (1020, 422)], ids=["2,047 bytes", "2,049 bytes"])
async def test_metadata_is_measured_in_bytes_of_utf_8(client: httpx.AsyncClient, length: int, status: int) -> None:
    metadata = {"a": "é" * length}
    answer = await client.post("/upload", json={"content_type": "video/mp4", "metadata": metadata})
    assert answer.status_code == status
    listed = (await client.get("/")).json()["media"]
    assert [media["metadata"] for media in listed] == ([metadata] if status == 201 else [])
