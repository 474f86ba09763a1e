"""Several uploads in one request: each has its own answer or problem, and one commit records them."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from broker import IssueRequest, metrics
from broker.store import migrate
from tests.support.samples import until_sessions_wait
from tests.support.serving import asking, bearing, served, token

VIDEO = {"content_type": "video/mp4", "size": 7}
PICTURE = {"content_type": "image/png"}


async def issue(client: httpx.AsyncClient, *uploads: dict[str, Any], **headers: str) -> list[dict[str, Any]]:
    answer = await client.post("/uploads", json={"uploads": uploads}, headers=bearing(token()) | headers)
    assert answer.status_code == 201, answer.text
    outcomes: list[dict[str, Any]] = answer.json()["uploads"]
    return outcomes


async def listed(client: httpx.AsyncClient) -> list[str]:
    answer = await client.get("/?limit=100", headers=bearing(token()))
    return [media["media_id"] for media in answer.json()["media"]]


async def test_each_upload_gets_its_own_answer_or_problem_in_order(tmp_path: Path) -> None:
    async with served(tmp_path) as client:
        first, refused, last = await issue(client, VIDEO | {"filename": "a.mp4"}, PICTURE, VIDEO | {"size": 8})
        assert [first["status"], last["status"]] == ["pending", "pending"]
        assert (refused["status"], refused["type"]) == (422, "urn:s3-media:problem:type-not-allowed")
        assert refused["success"] is False
        assert (first["max_size"], last["max_size"]) == (7, 8)
        assert first["complete_url"].endswith(f"/api/v1/s3-media/{first['media_id']}/complete")
        assert sorted(await listed(client)) == sorted([first["media_id"], last["media_id"]])


async def test_an_answer_is_the_one_of_a_single_upload(tmp_path: Path) -> None:
    async with served(tmp_path) as client:
        single = (await client.post("/upload", json=VIDEO, headers=bearing(token()))).json()
        (one,) = await issue(client, VIDEO)
        refusal = (await client.post("/upload", json=PICTURE, headers=bearing(token()))).json()
        (refused,) = await issue(client, PICTURE)
    assert one.keys() == single.keys()
    assert one["upload"].keys() == single["upload"].keys()
    assert refused == refusal


async def test_a_hundred_uploads_are_one_commit(tmp_path: Path) -> None:
    async with served(tmp_path) as client:
        before = commits()
        outcomes = await issue(client, *[VIDEO] * 100)
        assert commits() - before == 1
        assert len({outcome["media_id"] for outcome in outcomes}) == 100
        assert len(await listed(client)) == 100


def commits() -> float:
    return sum(
        sample.value
        for metric in metrics.COMMIT_BATCH.collect()
        for sample in metric.samples
        if sample.name.endswith("_count")
    )


async def test_a_quota_refuses_the_uploads_that_do_not_fit(tmp_path: Path) -> None:
    async with served(tmp_path, quota_pending_count=2) as client:
        outcomes = await issue(client, VIDEO, VIDEO, VIDEO)
    assert [outcome["status"] for outcome in outcomes] == ["pending", "pending", 403]


async def test_each_upload_counts_against_the_rate_limit(tmp_path: Path) -> None:
    async with served(tmp_path, rate_limit_issue="3/minute") as client:
        outcomes = await issue(client, *[VIDEO] * 4)
        assert [outcome["status"] for outcome in outcomes] == ["pending", "pending", "pending", 429]
        answer = await client.post("/uploads", json={"uploads": [VIDEO]}, headers=bearing(token()))
        assert (answer.status_code, answer.json()["type"]) == (429, "urn:s3-media:problem:rate-limited")


async def test_the_rate_limit_refuses_no_media_that_the_key_has_issued_before(tmp_path: Path) -> None:
    async with served(tmp_path, rate_limit_issue="5/minute") as client:
        key = {"Idempotency-Key": "batch-1"}
        once = await issue(client, VIDEO, VIDEO, VIDEO, **key)
        again = await issue(client, VIDEO, VIDEO, VIDEO, VIDEO, **key)
        assert [outcome.get("media_id") for outcome in again] == [*(outcome["media_id"] for outcome in once), None]
        assert again[3]["status"] == 429
        assert len(await listed(client)) == 3
        flood = await client.post("/uploads", json={"uploads": [VIDEO]}, headers=bearing(token()) | key)
        assert flood.status_code == 429


async def test_the_rate_limit_refuses_a_backend_that_repeats_only_what_it_has_issued(tmp_path: Path) -> None:
    backend = bearing(token("backend", "media:upload media:delegate")) | {"Idempotency-Key": "batch-1"}
    body = {"uploads": [VIDEO | {"owner": "anna"}, VIDEO | {"owner": "anna"}]}
    async with served(tmp_path, rate_limit_issue="2/minute") as client:
        await client.post("/uploads", json=body, headers=backend)
        again = await client.post("/uploads", json=body, headers=backend)
    assert [outcome["status"] for outcome in again.json()["uploads"]] == [429, "pending"]


async def test_the_rate_limit_refuses_no_upload_that_is_being_issued(tmp_path: Path) -> None:
    asked, decided = asyncio.Event(), asyncio.Event()

    async def on_issue(_: IssueRequest) -> None:
        asked.set()
        await decided.wait()

    key = {"Idempotency-Key": "batch-1"}
    async with asking(on_issue, tmp_path, rate_limit_issue="5/minute") as client:
        first = asyncio.create_task(issue(client, VIDEO, VIDEO, VIDEO, **key))
        await asked.wait()
        again = await issue(client, VIDEO, VIDEO, VIDEO, **key)
        decided.set()
        assert [outcome["status"] for outcome in again] == [409, 409, 409]
        assert [outcome["status"] for outcome in await first] == ["pending", "pending", "pending"]


async def test_the_rate_limit_refuses_no_upload_that_another_process_is_recording(
    tmp_path: Path, postgresql_url: str
) -> None:
    migrate(postgresql_url)
    key = {"Idempotency-Key": "batch-1"}
    async with (
        served(tmp_path, database_url=postgresql_url, rate_limit_issue="5/minute") as one,
        served(tmp_path, database_url=postgresql_url, rate_limit_issue="1/minute") as other,
        await psycopg.AsyncConnection.connect(postgresql_url) as locking,
    ):
        await one.post("/upload", json=VIDEO, headers=bearing(token()))
        await locking.execute("SELECT 1 FROM broker_usage FOR UPDATE")
        first = asyncio.create_task(issue(one, *[VIDEO] * 4, **key))
        await until_sessions_wait(postgresql_url, 1)
        again = asyncio.create_task(issue(other, *[VIDEO] * 4, **key))
        await until_sessions_wait(postgresql_url, 2)
        await locking.rollback()
        issued, repeated = await first, await again
    assert [outcome["status"] for outcome in issued] == ["pending"] * 4
    assert [outcome.get("media_id") for outcome in repeated] == [outcome["media_id"] for outcome in issued]


async def test_a_backend_cannot_name_the_place_of_an_upload_of_its_namesake(tmp_path: Path) -> None:
    upload = VIDEO | {"owner": "anna"}
    backend = bearing(token("backend", "media:upload media:delegate"))
    async with served(tmp_path) as client:
        answer = await client.post("/upload", json=upload, headers=backend | {"Idempotency-Key": "0"})
        (own,) = await issue(client, VIDEO, **{"Idempotency-Key": "backend"})
    assert own.get("media_id") not in {None, answer.json()["media_id"]}


async def test_a_repeated_request_with_its_key_gets_the_same_media(tmp_path: Path) -> None:
    async with served(tmp_path) as client:
        key = {"Idempotency-Key": "batch-1"}
        once = await issue(client, VIDEO, PICTURE, VIDEO, **key)
        again = await issue(client, VIDEO, PICTURE, VIDEO, **key)
        other = await issue(client, VIDEO, PICTURE, VIDEO | {"size": 8}, **key)
        assert [outcome.get("media_id") for outcome in once] == [outcome.get("media_id") for outcome in again]
        assert once[0]["media_id"] != once[2]["media_id"]
        assert [outcome["status"] for outcome in other] == ["pending", 422, 422]
        single = await client.post("/upload", json=VIDEO, headers=bearing(token()) | key)
        assert single.json()["media_id"] not in [once[0]["media_id"], once[2]["media_id"]]


async def test_a_delegate_issues_for_several_owners_and_others_may_not(tmp_path: Path) -> None:
    uploads = [VIDEO | {"owner": "anna"}, VIDEO | {"owner": "ben"}]
    backend = bearing(token("backend", "media:upload media:delegate"))
    async with served(tmp_path) as client:
        answer = await client.post("/uploads", json={"uploads": uploads}, headers=backend)
        assert all(outcome["upload_token"].startswith("s3mu_") for outcome in answer.json()["uploads"])
        refused, own = await issue(client, uploads[0], VIDEO)
        assert (refused["status"], refused["type"]) == (403, "urn:s3-media:problem:permission-missing")
        assert own["status"] == "pending"


@pytest.mark.parametrize(
    "body",
    [{}, {"uploads": []}, {"uploads": [VIDEO] * 101}, {"uploads": [VIDEO, {}]}, {"uploads": [VIDEO], "more": 1}, []],
    ids=["nothing", "none", "too many", "an invalid one", "an unknown member", "a list"],
)
async def test_an_invalid_body_is_refused_as_a_whole(tmp_path: Path, body: Any) -> None:
    async with served(tmp_path) as client:
        answer = await client.post("/uploads", json=body, headers=bearing(token()))
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:s3-media:problem:request-invalid")
        assert await listed(client) == []
