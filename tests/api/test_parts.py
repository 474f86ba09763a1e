"""The route of parts: what a client of a resumable upload sends and gets."""

import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from broker.dev.s3 import EmbeddedS3
from tests.support.in_parts import FILE, PART, piece
from tests.support.serving import bearing, on_s3, served, token

GB = 10**9
HEADERS = bearing(token())
ASKED = {"content_type": "video/mp4", "size": len(FILE), "resumable": True}


@pytest.fixture
async def client(tmp_path: Path, embedded_s3: EmbeddedS3, bucket: str) -> AsyncIterator[httpx.AsyncClient]:
    async with served(
        tmp_path,
        **(on_s3(embedded_s3, bucket) | {"s3_timeout_seconds": 10}),
        part_size=PART,
        max_file_size=40_000 * GB,
    ) as client:
        client.headers.update(HEADERS)
        yield client


async def issued(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await client.post("/upload", json=ASKED | body)
    assert answer.status_code == 201, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def post_part(parts: dict[str, Any], number: int, body: bytes) -> httpx.Response:
    form = next(form for form in parts["forms"] if form["number"] == number)
    async with httpx.AsyncClient() as s3:
        return await s3.post(parts["url"], data=parts["fields"] | form["fields"], files={"file": body})


async def test_a_file_is_uploaded_in_parts(client: httpx.AsyncClient) -> None:
    answer = await issued(client)
    parts = answer["parts"]
    assert answer["upload"] is None
    assert (parts["part_size"], parts["count"], parts["arrived"], parts["next_from"]) == (PART, 3, [], None)
    assert [(form["number"], form["size"]) for form in parts["forms"]] == [(1, PART), (2, PART), (3, 1000)]
    assert (await post_part(parts, 2, piece(FILE, 2))).status_code == 201

    incomplete = await client.post(answer["complete_url"])
    assert (incomplete.status_code, incomplete.headers["retry-after"]) == (409, "2")
    problem = incomplete.json()
    assert (problem["type"], problem["missing"]) == ("urn:s3-media:problem:parts-missing", [1, 3])

    page = await client.get(answer["parts_url"])
    assert (page.status_code, page.headers["cache-control"]) == (200, "no-store")
    fresh = page.json()
    assert fresh["complete_url"] == answer["complete_url"]
    assert fresh["upload_expires_at"] == answer["upload_expires_at"]
    assert fresh["parts"]["arrived"] == [2]
    for form in fresh["parts"]["forms"]:
        assert (await post_part(fresh["parts"], form["number"], piece(FILE, form["number"]))).status_code == 201
    ready = await client.post(answer["complete_url"])
    assert ready.status_code == 200, ready.text
    assert httpx.get(ready.json()["signed_url"]).content == FILE


async def test_the_parts_of_another_owner_are_not_found(client: httpx.AsyncClient) -> None:
    answer = await issued(client)
    foreign = await client.get(answer["parts_url"], headers=bearing(token(owner="berta")))
    assert foreign.status_code == 404


async def test_a_single_form_has_no_page_of_parts(client: httpx.AsyncClient) -> None:
    answer = await client.post("/upload", json={"content_type": "video/mp4", "size": 10})
    assert "parts_url" not in answer.json()
    problem = await client.get(f"/{answer.json()['media_id']}/parts")
    assert (problem.status_code, problem.json()["type"]) == (409, "urn:s3-media:problem:not-resumable")


async def test_a_file_over_five_gibibytes_must_be_resumable(client: httpx.AsyncClient) -> None:
    body = {"content_type": "video/mp4", "size": 6 * GB}
    refused = await client.post("/upload", json=body)
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:s3-media:problem:resumable-required")
    assert refused.json()["max_form_size"] == 5 * 1024**3
    assert (await client.post("/upload", json=body | {"resumable": True})).status_code == 201


@pytest.mark.parametrize("query", ["from=0", "from=10001", "limit=0", "limit=1001", "forms=-1", "from=x"])
async def test_a_page_has_bounds(client: httpx.AsyncClient, query: str) -> None:
    answer = await issued(client)
    refused = await client.get(f"{answer['parts_url']}?{query}")
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:s3-media:problem:request-invalid")


@pytest.mark.parametrize(
    ("body", "at"),
    [
        ({"size": None}, "body.size"),
        ({"checksum_sha256": "A" * 43 + "="}, "body.checksum_sha256"),
        ({"resumable": False, "checksum_crc64nvme": "AAAAAAAAAAA="}, "body.checksum_crc64nvme"),
        ({"checksum_crc64nvme": "AAAA"}, "body.checksum_crc64nvme"),
        ({"resumable": 1}, "body.resumable"),
    ],
)
async def test_a_request_that_parts_cannot_keep_is_refused(
    client: httpx.AsyncClient, body: dict[str, Any], at: str
) -> None:
    refused = await client.post("/upload", json=ASKED | body)
    assert refused.status_code == 422
    assert [error["at"] for error in refused.json()["errors"]] == [at]


async def test_fifty_gigabytes_are_promised_in_a_short_answer(client: httpx.AsyncClient) -> None:
    began = time.perf_counter()
    answer = await client.post("/upload", json=ASKED | {"size": 50 * GB})
    seconds = time.perf_counter() - began
    parts = answer.json()["parts"]
    print(f"50 GB: {parts['count']} parts, {len(answer.content):,} bytes, {seconds * 1000:.1f} ms")  # noqa: T201
    assert 900 < parts["count"] <= 1000
    assert len(answer.content) < 100_000
    numbers = []
    page = {"next_from": 1}
    while page["next_from"]:
        began = time.perf_counter()
        listed = await client.get(answer.json()["parts_url"], params={"from": page["next_from"], "limit": 400})
        print(f"a page: {len(listed.content):,} bytes, {(time.perf_counter() - began) * 1000:.1f} ms")  # noqa: T201
        page = listed.json()["parts"]
        numbers += [form["number"] for form in page["forms"]]
    assert numbers == list(range(1, parts["count"] + 1))


async def test_the_promised_parts_add_up_to_the_promised_size(client: httpx.AsyncClient) -> None:
    answer = await issued(client, size=40_000 * GB)
    parts = answer["parts"]
    assert parts["count"] <= 10_000
    assert parts["part_size"] <= 5 * 1024**3
    last = (await client.get(f"{answer['parts_url']}?from={parts['count']}")).json()["parts"]["forms"]
    assert (parts["count"] - 1) * parts["part_size"] + last[0]["size"] == 40_000 * GB
    assert len(json.dumps(answer)) < 100_000


@pytest.mark.parametrize("written", [str, str.upper], ids=["as issued", "in upper case"])
async def test_a_client_with_nothing_but_the_id_learns_where_to_go_on(
    client: httpx.AsyncClient, written: Callable[[str], str]
) -> None:
    answer = await issued(client)
    waiting = await client.get(f"/{written(answer['media_id'])}")
    assert waiting.status_code == 409
    known = {name: waiting.json()[name] for name in ("media_status", "resumable", "parts_url", "upload_expires_at")}
    assert known == {
        "media_status": "pending",
        "resumable": True,
        "parts_url": answer["parts_url"],
        "upload_expires_at": answer["upload_expires_at"],
    }
    page = await client.get(f"/{written(answer['media_id'])}/parts")
    assert page.json()["complete_url"] == answer["complete_url"]


async def test_the_list_tells_resumable_uploads_from_others(client: httpx.AsyncClient) -> None:
    in_parts = await issued(client)
    in_parts["resumable"] = True
    one_form = (await client.post("/upload", json={"content_type": "video/mp4", "size": 10})).json()
    listed = {media["media_id"]: media for media in (await client.get("/")).json()["media"]}
    told = {"resumable", "parts_url", "upload_expires_at"}
    assert {name: listed[in_parts["media_id"]][name] for name in told} == {name: in_parts[name] for name in told}
    assert told & listed[one_form["media_id"]].keys() == {"resumable"}
    assert listed[one_form["media_id"]]["resumable"] is False

    for form in in_parts["parts"]["forms"]:
        await post_part(in_parts["parts"], form["number"], piece(FILE, form["number"]))
    ready = (await client.post(in_parts["complete_url"])).json()
    (after,) = (await client.get("/?status=ready")).json()["media"]
    for media in (ready, after):
        assert told & media.keys() == {"resumable"}
        assert media["resumable"] is True
