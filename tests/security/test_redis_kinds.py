"""Limits that several processes share, in each kind of Redis: one server, a cluster, and behind a Sentinel."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from limits.aio.storage import RedisClusterStorage, RedisStorage
from limits.errors import StorageError

from broker.api.limits import redis as limits_redis
from broker.api.limits import redis_storage
from broker.api.limits.redis import RedisWindows
from broker.api.limits.redis_storage import count_everywhere, reason_of
from broker.api.limits.windows import Limit
from broker.domain.access.rate import Rate
from tests.support.redis_cluster import running_cluster, running_sentinel
from tests.support.redis_server import running_redis
from tests.support.serving import bearing, served, token

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


async def count_of(windows: RedisWindows, owner: str) -> int | None:
    """Count one request of an owner in a process; return None if it does not count together with the others."""
    window = await windows.count(LIMIT, owner)
    return None if window is None else window.count


async def until_shared(windows: RedisWindows, owner: str) -> int:
    """Count an owner as often as it takes to count in Redis again; return its first count there."""
    async with asyncio.timeout(100):
        while (count := await count_of(windows, owner)) is None:
            await asyncio.sleep(0.05)
    return count


@pytest.mark.parametrize("scheme", ["redis+cluster", "valkey+cluster"])
async def test_two_processes_count_together_in_a_cluster_of_three_nodes(tmp_path: Path, scheme: str) -> None:
    with running_cluster(tmp_path) as ports:
        url = f"{scheme}://" + ",".join(f"127.0.0.1:{port}" for port in ports)
        assert await counts_of_two_processes(url) == {(1, 2)}
        await count_everywhere(url)
        keys = [redis.Redis(port=port).dbsize() for port in ports]
        assert all(isinstance(count, int) and count > 0 for count in keys)


async def test_each_process_counts_by_itself_while_a_cluster_is_gone_and_with_the_others_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    incr, errors = RedisClusterStorage.incr, Counter[str]()

    async def recorded(self: RedisClusterStorage, *arguments: int | str) -> int:
        try:
            return await incr(self, *arguments)  # type: ignore[arg-type]
        except Exception as error:
            errors[type(error).__name__] += 1
            raise

    monkeypatch.setattr(RedisClusterStorage, "incr", recorded)
    monkeypatch.setattr(limits_redis, "PROBE_SECONDS", 0.05)
    (folder := tmp_path / "broker").mkdir()
    with running_cluster(tmp_path) as ports:
        url = "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in ports)
        async with (
            process(url) as first,
            process(url) as second,
            served(folder, rate_limit_storage=url, rate_limit_playback="1000/minute") as client,
        ):
            assert (await client.get("/", headers=bearing(token()))).status_code == 200
            assert await count_of(first, "ann") == 1
            assert await count_of(second, "ann") == 2
            for port in ports:
                redis.Redis(port=port).shutdown(nosave=True)
            for _ in range(3):
                assert await asyncio.gather(*(count_of(first, owner) for owner in OWNERS)) == [None] * len(OWNERS)
                assert await count_of(second, "ann") is None
                assert (await client.get("/", headers=bearing(token()))).status_code == 200
            async with asyncio.timeout(100):
                while errors["RedisClusterException"] < 10:  # probes, as no request asks Redis now
                    await asyncio.sleep(0.05)
            with running_cluster(tmp_path, before=ports):
                assert await until_shared(first, "ben") == 1
                assert await until_shared(second, "cid") == 1
                assert await count_of(second, "ben") == 2
                assert (await client.get("/", headers=bearing(token()))).status_code == 200


async def test_a_probe_goes_on_after_an_unexpected_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_redis(tmp_path) as url:
        async with process(url) as windows:
            incr, errors = RedisStorage.incr, [OSError(), RuntimeError()]

            async def failing(self: RedisStorage, *arguments: int | str) -> int:
                if errors:
                    raise errors.pop(0)
                return await incr(self, *arguments)  # type: ignore[arg-type]

            monkeypatch.setattr(RedisStorage, "incr", failing)
            assert await count_of(windows, "ann") is None
            assert await until_shared(windows, "ann") == 1
            assert errors == []


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
