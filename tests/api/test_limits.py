"""Rate limits: their numbers in each response, the 429, and the end of a window."""

from datetime import timedelta
from pathlib import Path

import pytest
from freezegun import freeze_time

from broker.api.limits.windows import MAX_COUNTERS, BoundedMemory
from broker.app import PREFIX, create_app
from tests.support.serving import bearing, client_of, settings_of, token

ASKED = {"content_type": "video/mp4"}


async def test_each_response_has_the_remaining_quota_and_a_429_has_retry_after(tmp_path: Path) -> None:
    app = create_app(settings_of(tmp_path, rate_limit_issue="2/minute"))
    async with client_of(app) as client:
        answers = [await client.post(f"{PREFIX}/upload", json=ASKED, headers=bearing(token())) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [201, 201, 429]
        assert [answer.headers["ratelimit"] for answer in answers] == ['"issue";r=1', '"issue";r=0', '"issue";r=0']
        assert {answer.headers["ratelimit-policy"] for answer in answers} == {'"issue";q=2;w=60'}
        assert 1 <= int(answers[2].headers["retry-after"]) <= 60
        assert answers[2].json()["type"] == "urn:s3-media:problem:rate-limited"
        another = await client.post(f"{PREFIX}/upload", json=ASKED, headers=bearing(token(sub="another")))
        assert another.status_code == 201
        listed = await client.get(f"{PREFIX}/", headers=bearing(token()))
        assert listed.status_code == 200
        assert "ratelimit" not in listed.headers


async def test_an_address_is_counted_before_its_token_is_checked(tmp_path: Path) -> None:
    app = create_app(settings_of(tmp_path, rate_limit_address="2/minute"))
    async with client_of(app) as client:
        for expected in (401, 401, 429):
            answer = await client.get(f"{PREFIX}/", headers={"Authorization": "Bearer nonsense"})
            assert answer.status_code == expected
        refused = await client.get(f"{PREFIX}/", headers=bearing(token()))
        assert refused.status_code == 429
        assert refused.headers["ratelimit"] == '"address";r=0'
    async with client_of(app, address="192.0.2.8") as client:
        assert (await client.get(f"{PREFIX}/", headers=bearing(token()))).status_code == 200


async def test_a_request_with_too_large_a_body_is_counted_too(tmp_path: Path) -> None:
    app = create_app(settings_of(tmp_path, rate_limit_address="2/minute"))
    async with client_of(app) as client:
        large = {"content": b"x" * 70_000, "headers": bearing(token()) | {"Content-Type": "application/json"}}
        answers = [await client.post(f"{PREFIX}/upload", **large) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [413, 413, 429]


def test_a_window_ends() -> None:
    memory = BoundedMemory(60)
    with freeze_time("2026-01-01") as clock:
        assert [memory.count("ann").count for _ in range(3)] == [1, 2, 3]
        clock.tick(timedelta(seconds=59))
        assert memory.count("ann").count == 4
        clock.tick(timedelta(seconds=1))
        assert memory.count("ann").count == 1


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.api.limits.windows.MAX_COUNTERS", 3)
    assert MAX_COUNTERS > 3
    memory = BoundedMemory(60)
    for who in "abcd":
        memory.count(who)
    assert memory.count("d").count == 2
    assert memory.count("a").count == 1
