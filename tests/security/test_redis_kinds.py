"""Limits that several processes share, in each kind of Redis: one server, a cluster, and behind a Sentinel."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from limits.errors import StorageError

from broker.api.limits import redis as limits_redis
from broker.api.limits import redis_storage
from broker.api.limits.redis import RedisWindows
from broker.api.limits.redis_storage import count_everywhere, reason_of
from broker.api.limits.windows import Limit
from broker.domain.access.rate import Rate
from tests.support.redis_cluster import running_cluster, running_sentinel
from tests.support.redis_server import running_redis

OWNERS = [f"owner {number}" for number in range(40)]
LIMIT = Limit("issue", Rate(5, 60))


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait long for Redis: on a loaded machine, a process would count by itself meanwhile."""
    monkeypatch.setattr(redis_storage, "ANSWER_SECONDS", 60.0)
    monkeypatch.setattr(limits_redis, "COUNT_SECONDS", 60.0)


@asynccontextmanager
async def process(url: str) -> AsyncIterator[RedisWindows]:
    """Open the windows as one process does."""
    windows = RedisWindows(url)
    yield windows
    await windows.close()


async def counts_of_two_processes(url: str) -> set[tuple[int | None, ...]]:
    """Count each owner once in each of two processes; return the distinct pairs of counts."""
    pairs: set[tuple[int | None, ...]] = set()
    async with process(url) as first, process(url) as second:
        for owner in OWNERS:
            windows = [await each.count(LIMIT, owner) for each in (first, second)]
            pairs.add(tuple(None if window is None else window.count for window in windows))
        for _ in range(5):
            window = await first.count(LIMIT, OWNERS[0])
        assert window is not None
        assert window.count == 7
        assert 0 < window.ends_at - time.monotonic() <= 61
    return pairs


@pytest.mark.parametrize("scheme", ["redis+cluster", "valkey+cluster"])
async def test_two_processes_count_together_in_a_cluster_of_three_nodes(tmp_path: Path, scheme: str) -> None:
    with running_cluster(tmp_path) as ports:
        url = f"{scheme}://" + ",".join(f"127.0.0.1:{port}" for port in ports)
        assert await counts_of_two_processes(url) == {(1, 2)}
        await count_everywhere(url)
        keys = [redis.Redis(port=port).dbsize() for port in ports]
        assert all(isinstance(count, int) and count > 0 for count in keys)


async def test_a_single_node_of_a_cluster_is_noticed(tmp_path: Path) -> None:
    with running_cluster(tmp_path) as ports:
        with pytest.raises(StorageError) as refusal:
            await count_everywhere(f"redis://127.0.0.1:{ports[0]}")
        assert reason_of(refusal.value) == "MovedError"


@pytest.mark.parametrize("scheme", ["redis+sentinel", "valkey+sentinel"])
async def test_two_processes_count_together_behind_a_sentinel(tmp_path: Path, scheme: str) -> None:
    with running_redis(tmp_path) as primary:
        (tmp_path / "sentinel").mkdir()
        with running_sentinel(tmp_path / "sentinel", urlsplit(primary).port or 0) as port:
            assert await counts_of_two_processes(f"{scheme}://127.0.0.1:{port}/primary") == {(1, 2)}


async def test_two_processes_count_together_in_one_server(tmp_path: Path) -> None:
    with running_redis(tmp_path) as url:
        for address in (url, url.replace("redis://", "valkey://")):
            assert await counts_of_two_processes(address) == {(1, 2)}
            redis.Redis.from_url(url).flushall()
