"""Rate limits: their numbers in each response, the 429, and the end of a window."""

import asyncio
import time
from datetime import timedelta
from pathlib import Path

import pytest
from freezegun import freeze_time
from starlette.types import Receive, Scope, Send

from broker.api.limits.windows import MAX_COUNTERS, BoundedMemory
from broker.app import PREFIX, create_app
from tests.support.serving import bearing, client_of, served, settings_of, token

ASKED = {"content_type": "video/mp4"}
MEDIA_ID = "01980f2c-6b1e-7c3a-9d52-0f6a4f1be7a3"


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


async def test_each_address_has_a_limit_of_its_own(tmp_path: Path) -> None:
    app = create_app(settings_of(tmp_path, rate_limit_address="2/minute", trusted_proxies="192.0.2.7"))
    addresses = ("198.51.100.1", "198.51.100.2", "2001:db8:0:1::1", "2001:db8:0:2::1")
    async with client_of(app) as client:
        for address in addresses:
            answers = [await client.get(f"{PREFIX}/", headers={"X-Forwarded-For": address}) for _ in range(3)]
            assert [answer.status_code for answer in answers] == [401, 401, 429], address
        same_subscriber = await client.get(f"{PREFIX}/", headers={"X-Forwarded-For": "2001:db8:0:2:ffff::2"})
        assert same_subscriber.status_code == 429


REQUESTS = {
    "issue": ("POST", "/upload"),
    "complete": ("POST", f"/{MEDIA_ID}/complete"),
    "playback": ("GET", f"/{MEDIA_ID}"),
    "delete": ("DELETE", f"/{MEDIA_ID}"),
    "form": ("GET", f"/{MEDIA_ID}/uploaded/state"),
    "health": ("GET", "/health/s3"),
}


@pytest.mark.parametrize("kind", REQUESTS)
async def test_each_kind_of_request_has_its_own_limit(tmp_path: Path, kind: str) -> None:
    """Only one kind is limited: its second request is refused, and each other kind is not."""
    async with served(tmp_path, **{f"rate_limit_{kind}": "1/minute"}) as client:
        for other, (method, path) in REQUESTS.items():
            body = ASKED if other == "issue" else None
            answers = [await client.request(method, path, json=body, headers=bearing(token())) for _ in range(2)]
            assert [answer.status_code == 429 for answer in answers] == [False, other == kind], other
            assert [answer.headers.get("ratelimit") for answer in answers] == [
                f'"{kind}";r=0' if other == kind else None
            ] * 2
        listed = await client.get("/", headers=bearing(token()))
        assert (listed.status_code == 429) == (kind == "playback")


@pytest.mark.parametrize("client_in_scope", [{}, {"client": None}], ids=["absent", "null"])
async def test_a_request_without_an_address_is_served_and_limited(
    tmp_path: Path, client_in_scope: dict[str, None]
) -> None:
    app = create_app(settings_of(tmp_path, rate_limit_address="2/minute"))

    async def without_address(scope: Scope, receive: Receive, send: Send) -> None:
        known = {name: value for name, value in scope.items() if name != "client"}
        await app({**known, **client_in_scope}, receive, send)

    without_address.router, without_address.routes = app.router, app.routes  # type: ignore[attr-defined]
    async with client_of(without_address) as client:
        answers = [await client.get(f"{PREFIX}/", headers=bearing(token())) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]


async def test_a_request_with_too_large_a_body_is_counted_too(tmp_path: Path) -> None:
    app = create_app(settings_of(tmp_path, rate_limit_address="2/minute"))
    async with client_of(app) as client:
        headers = bearing(token()) | {"Content-Type": "application/json"}
        answers = [await client.post(f"{PREFIX}/upload", content=b"x" * 70_000, headers=headers) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [413, 413, 429]


async def test_a_clock_that_jumps_back_does_not_prolong_a_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(settings_of(tmp_path, rate_limit_issue="1/second"))
    bearer = bearing(token(seconds=7200))
    async with client_of(app) as client:
        while (await client.post(f"{PREFIX}/upload", json=ASKED, headers=bearer)).status_code != 429:
            pass
        wall_clock = time.time
        monkeypatch.setattr(time, "time", lambda: wall_clock() - 7200)
        async with asyncio.timeout(10):
            while (await client.post(f"{PREFIX}/upload", json=ASKED, headers=bearer)).status_code == 429:
                await asyncio.sleep(0.05)


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
