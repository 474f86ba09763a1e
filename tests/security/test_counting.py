"""Limits and quotas hold to the last request, over two processes and with an unavailable Redis."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from redis import Redis
from structlog.testing import capture_logs

from broker.api.limits.redis import PROBE_KEY, RedisWindows
from broker.api.limits.windows import Limit, Window
from broker.domain.access.rate import Rate
from broker.store import Store, migrate
from tests.support.databases import sqlite_url
from tests.support.processes import Running, running
from tests.support.redis_server import running_redis
from tests.support.serving import SECRET, bearing, token

ONE_PROCESS = ("serve", "--port", "0", "--workers", "1")
SERVES = r"running on (http://[\d.:]+)"
ALLOWED, ROOM, ASKED = 300, 100, 1000
CLIENTS = 50


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    with running_redis(tmp_path) as url:
        yield url


def deployment(database_url: str, redis_url: str) -> dict[str, str]:
    return {
        "SECRET_KEY": SECRET,
        "AWS_S3_BUCKET_NAME": "videos",
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "BROKER_DATABASE_URL": database_url,
        "BROKER_DATABASE_TIMEOUT_SECONDS": "30",
        "BROKER_RATE_LIMIT_STORAGE": redis_url,
        "BROKER_RATE_LIMIT_ADDRESS": "off",
        "BROKER_RATE_LIMIT_ISSUE": f"{ALLOWED}/day",
        "BROKER_QUOTA_PENDING_COUNT": str(ROOM),
    }


async def answers_of(servers: list[Running], count: int) -> Counter[int]:
    """Send `count` issues at once, spread over the servers, and count the answers by their status."""
    addresses = [server.wait_for(SERVES)[1] for server in servers]
    headers = bearing(token("anna"))
    async with AsyncExitStack() as stack:
        # httpx's pool takes a time that grows with the square of what waits in it, hence many small ones.
        clients = [
            await stack.enter_async_context(httpx.AsyncClient(timeout=60, headers=headers)) for _ in range(CLIENTS)
        ]

        async def issue(number: int) -> int:
            url = f"{addresses[number % len(addresses)]}/api/v1/s3-media/upload"
            client = clients[number % len(clients)]
            return (await client.post(url, json={"content_type": "video/mp4", "size": 1000})).status_code

        return Counter(await asyncio.gather(*(issue(number) for number in range(count))))


async def test_a_thousand_concurrent_requests_are_all_counted(
    tmp_path: Path, postgresql_url: str, redis_url: str
) -> None:
    migrate(postgresql_url)
    variables = deployment(postgresql_url, redis_url)
    with ExitStack() as stack:
        servers = [stack.enter_context(running(*ONE_PROCESS, cwd=tmp_path, **variables)) for _ in range(2)]
        counted = await answers_of(servers, ASKED)
        assert counted == {201: ROOM, 403: ALLOWED - ROOM, 429: ASKED - ALLOWED}
    store = Store(postgresql_url)
    usage = await store.usage("anna")
    await store.close()
    assert (usage.pending_count, usage.promised_bytes) == (ROOM, ROOM * 1000)


async def test_without_redis_each_process_counts_by_itself(tmp_path: Path) -> None:
    database_url = sqlite_url(tmp_path)
    with running_redis(tmp_path) as redis_url:
        variables = deployment(database_url, redis_url)
    with running(*ONE_PROCESS, cwd=tmp_path, **variables) as server:
        counted = await answers_of([server], ALLOWED + 50)
        assert counted == {201: ROOM, 403: ALLOWED - ROOM, 429: 50}
        assert "redis is unavailable" in server.said


async def test_a_redis_that_is_back_counts_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.api.limits.redis.PROBE_SECONDS", 0.1)
    limit = Limit("issue", Rate(1, 60))

    async def count() -> Window | None:
        return await windows.count(limit, "anna")

    with running_redis(tmp_path) as url:
        windows = RedisWindows(url)
        first, second = await count(), await count()
        assert first is not None
        assert second is not None
        assert (first.count, second.count) == (1, 2)
        assert 0 < second.ends_at - time.monotonic() <= 60
    with capture_logs() as logs:
        assert await count() is None
        with running_redis(tmp_path, port=urlsplit(url).port or 0), Redis.from_url(url) as redis:
            async with asyncio.timeout(10):
                while (again := await count()) is None:
                    await asyncio.sleep(0.05)
            assert again.count == 1  # the counters are gone with the old Redis
            assert redis.exists(f"LIMITS:{PROBE_KEY}")
        await windows.close()
    assert [line["event"] for line in logs] == [
        "redis is unavailable, so this process counts by itself",
        "redis is available again",
    ]


async def test_a_hung_redis_delays_one_request_at_most_and_is_then_probed_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.api.limits.redis.COUNT_SECONDS", 1.0)
    monkeypatch.setattr("broker.api.limits.redis.PROBE_SECONDS", 0.1)
    limit = Limit("issue", Rate(1, 60))
    with running_redis(tmp_path) as url:
        windows = RedisWindows(url)
        assert await windows.count(limit, "anna") is not None
        (server,) = (child for child in psutil.Process().children() if child.name() == "redis-server")
        server.suspend()
        try:
            burst = await asyncio.gather(*(windows.count(limit, f"{number}") for number in range(200)))
            assert set(burst) == {None}
            slowest = 0.0
            began = time.monotonic()
            while time.monotonic() < began + 4:  # several probes fail meanwhile
                asked_at = time.monotonic()
                assert await windows.count(limit, "anna") is None
                slowest = max(slowest, time.monotonic() - asked_at)
                await asyncio.sleep(0.01)
            assert slowest < 1.0
        finally:
            server.resume()
        async with asyncio.timeout(10):
            while await windows.count(limit, "anna") is None:
                await asyncio.sleep(0.05)
        await windows.close()
