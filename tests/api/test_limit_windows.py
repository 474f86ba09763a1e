"""Rate limits without an application: windows, what a refusal says, addresses as they are counted, and storages."""

import asyncio
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from freezegun import freeze_time
from limits.aio.storage import RedisClusterStorage, RedisSentinelStorage, RedisStorage
from limits.errors import StorageError
from redis import Redis
from structlog.testing import capture_logs

from broker.api.limits.limits import Limits, counted_address
from broker.api.limits.redis import RedisWindows
from broker.api.limits.redis_storage import (
    ANSWER_SECONDS,
    CONNECTIONS,
    SLOTS,
    close_storage,
    count_everywhere,
    open_storage,
    reason_of,
)
from broker.api.limits.windows import BoundedMemory, Limit, Standing, Window
from broker.domain.access.rate import Rate
from broker.errors import RateLimited, SettingsInvalid
from tests.support.redis_server import running_redis

TWO_A_MINUTE = Rate(2, 60)


class Shared:
    """Windows that a storage outside this process counts, or no windows if it is away."""

    def __init__(self, window: Window | None) -> None:
        self.window = window
        self.asked: list[tuple[str, str]] = []
        self.is_closed = False

    async def count(self, limit: Limit, client: str) -> Window | None:
        self.asked.append((limit.kind, client))
        return self.window

    async def close(self) -> None:
        self.is_closed = True


async def test_a_limit_counts_down_and_its_refusal_says_when_to_retry() -> None:
    limits = Limits({"issue": TWO_A_MINUTE, "delete": None})
    with freeze_time("2026-01-01") as clock:
        left = [await limits.count("issue", "anna") for _ in range(2)]
        assert [standing.remaining for standing in left if standing] == [1, 0]
        for passed, wait in ((0, 60), (29.5, 31), (30, 1), (0.25, 1)):
            clock.tick(timedelta(seconds=passed))
            with pytest.raises(RateLimited) as refused:
                await limits.count("issue", "anna")
            assert refused.value.facts == {"limit": "2 in 60 seconds", "retry_after": wait, "kind": "issue"}
        assert limits.exhausted(refused.value) == Standing(left[0].limit, 0) if left[0] else False
        other = await limits.count("issue", "berta")
        assert other is not None
        assert other.remaining == 1
        clock.tick(timedelta(seconds=0.25))
        assert await limits.count("issue", "anna") is not None
    assert await limits.count("delete", "anna") is None
    assert await limits.count("health", "anna") is None


async def test_a_shared_storage_counts_while_it_answers() -> None:
    shared = Shared(Window(0.0, 1))
    limits = Limits({"issue": TWO_A_MINUTE}, shared)
    standing = await limits.count("issue", "anna")
    assert standing is not None
    assert standing.remaining == 1
    shared.window = Window(0.0, 3)
    with pytest.raises(RateLimited) as refused:
        await limits.count("issue", "anna")
    assert refused.value.facts["retry_after"] == 1
    shared.window = None
    for left in (1, 0):
        standing = await limits.count("issue", "anna")
        assert standing is not None
        assert standing.remaining == left
    assert shared.asked == [("issue", "anna")] * 4
    await limits.close()
    assert shared.is_closed
    await Limits({}).close()


def test_a_limit_names_itself_in_headers_and_keys() -> None:
    limit = Limit("issue", TWO_A_MINUTE)
    assert limit.key("anna") == "s3-media/issue/2/60/anna"
    assert Standing(limit, 1).headers() == [(b"ratelimit-policy", b'"issue";q=2;w=60'), (b"ratelimit", b'"issue";r=1')]
    assert Window(7.0).count == 0


def test_a_client_whose_window_ended_begins_anew_as_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.api.limits.windows.MAX_COUNTERS", 3)
    memory = BoundedMemory(60)
    with freeze_time("2026-01-01") as clock:
        memory.count("ann")
        clock.tick(timedelta(seconds=30))
        memory.count("ben")
        clock.tick(timedelta(seconds=30))
        for client in ("ann", "cid", "dan"):
            assert memory.count(client).count == 1
        assert [memory.count(client).count for client in ("ann", "cid", "dan")] == [2, 2, 2]
        assert memory.count("ben").count == 1  # the oldest made room


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:0:2:ffff::2", "2001:db8:0:2::"),
        ("fe80::1%eth0%1", "fe80::"),
        ("testclient", "unknown"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_an_address_is_counted_by_its_subscriber(host: str | None, key: str) -> None:
    assert counted_address(host) == key


TLS = ("rediss", "valkeys")
TIMEOUTS = {"socket_timeout": ANSWER_SECONDS, "socket_connect_timeout": ANSWER_SECONDS}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://r.example:6380/2", {"host": "r.example", "port": 6380, "db": 2}),
        ("valkey://r.example:6380/2", {"host": "r.example", "port": 6380, "db": 2}),
        ("rediss://r.example", {"host": "r.example"}),
        ("redis+unix:///run/redis.sock?db=2", {"path": "/run/redis.sock", "db": 2}),
        ("valkey+unix:///run/redis.sock", {"path": "/run/redis.sock"}),
    ],
)
async def test_an_address_of_one_server_is_a_bounded_pool(url: str, expected: dict[str, Any]) -> None:
    storage: Any = open_storage(url)
    pool = storage.options["connection_pool"]
    assert pool.connection_kwargs.items() >= (expected | TIMEOUTS).items()
    assert (pool.max_connections, pool.timeout) == (CONNECTIONS, ANSWER_SECONDS)
    assert pool.connection_class.__name__ == (
        "SSLConnection" if "rediss" in url else "UnixDomainSocketConnection" if "unix" in url else "Connection"
    )
    assert storage.wrap_exceptions is True
    await close_storage(storage)


@pytest.mark.parametrize(
    ("address", "option"),
    [
        ("redis://:hidden@h:6379?ssl=true", "ssl"),
        ("redis://:hidden@h:6379?ssl_cert_reqs=none", "ssl_cert_reqs"),
        ("rediss://:hidden@h:6379?ssl_cert_reqs=perhaps", "ssl_cert_reqs"),
        ("redis://:hidden@h:6379?socket_timeout=abc", "socket_timeout"),
        ("redis://h:6379?password=hidden&colour=hidden", "colour, password"),
        ("redis://:hidden@h:6379?protocol=9", "protocol"),
        ("redis://:hidden@h:6379?retry=3", "retry"),
        ("redis+unix:///run/redis.sock?host=hidden", "host"),
    ],
)
def test_an_option_that_no_connection_has_is_named_and_no_value(address: str, option: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"^BROKER_RATE_LIMIT_STORAGE: should have only options") as refusal:
        open_storage(address)
    assert f"(it has {option})" in str(refusal.value)
    assert "hidden" not in str(refusal.value)


@pytest.mark.parametrize(
    "address", ["rediss://h:6379?ssl_cert_reqs=none", "redis://h:6379?socket_timeout=0.5&client_name=broker"]
)
def test_an_option_that_a_connection_has_is_accepted(address: str) -> None:
    assert isinstance(open_storage(address), RedisStorage)


@pytest.mark.parametrize("scheme", ["redis", "valkey", "rediss", "valkeys"])
def test_an_address_of_a_cluster_bounds_the_connections_to_each_node(scheme: str) -> None:
    storage: Any = open_storage(f"{scheme}+cluster://a.example:7000,b.example:7001")
    assert (type(storage), storage.wrap_exceptions) == (RedisClusterStorage, True)
    nodes = storage.bridge.storage.startup_nodes
    assert [(node.host, node.port) for node in nodes] == [("a.example", 7000), ("b.example", 7001)]
    for node in nodes:
        assert node.max_connections == CONNECTIONS
        assert node.connection_kwargs.items() >= TIMEOUTS.items()
        assert node.connection_class.__name__ == ("SSLConnection" if scheme in TLS else "Connection")


@pytest.mark.parametrize("scheme", ["redis", "valkey", "rediss", "valkeys"])
def test_an_address_of_sentinels_asks_the_primary_alone(scheme: str) -> None:
    storage: Any = open_storage(f"{scheme}+sentinel://a.example:7000,b.example:7001/primary")
    assert (type(storage), storage.wrap_exceptions) == (RedisSentinelStorage, True)
    assert storage.bridge.uri == "redis+sentinel://a.example:7000,b.example:7001/primary"
    assert storage.use_replicas is False
    tls = {"ssl": True} if scheme in TLS else {}
    assert storage.sentinel_kwargs.items() >= (TIMEOUTS | tls).items()
    assert storage.options.items() >= (TIMEOUTS | tls).items()
    assert ("ssl" in storage.options, "ssl" in storage.sentinel_kwargs) == (bool(tls), bool(tls))


@pytest.mark.parametrize(
    ("user", "given"),
    [
        ("", {}),
        ("anna:p%40ss%3A@", {"username": "anna", "password": "p@ss:"}),
        (":secret@", {"password": "secret"}),
        ("anna@", {"username": "anna"}),
        ("anna:a@b@", {"username": "anna", "password": "a@b"}),
    ],
)
def test_the_user_of_several_servers_is_decoded(user: str, given: dict[str, str]) -> None:
    sentinels: Any = open_storage(f"redis+sentinel://{user}a.example:7000/primary")
    (node,) = open_storage(f"redis+cluster://{user}a.example:7000").bridge.storage.startup_nodes  # type: ignore[attr-defined]
    for options in (sentinels.options, node.connection_kwargs):
        assert {name: options[name] for name in ("username", "password") if options.get(name)} == given
    assert sentinels.bridge.uri == "redis+sentinel://a.example:7000/primary"
    assert node.host == "a.example"


async def test_redis_counts_a_window_and_keeps_no_connection_after_its_close(tmp_path: Path) -> None:
    limit = Limit("issue", Rate(2, 60))
    with running_redis(tmp_path) as url, Redis.from_url(url) as redis:
        windows = RedisWindows(url)
        counted = [await windows.count(limit, "anna") for _ in range(3)]
        assert [window.count for window in counted if window] == [1, 2, 3]
        ends_at = [window.ends_at - time.monotonic() for window in counted if window]
        assert max(ends_at[:2]) < 0  # not asked for, as the count is within the limit
        assert 50 < ends_at[2] <= 60
        assert redis.keys() == [b"LIMITS:s3-media/issue/2/60/anna"]
        await windows.close()
        await count_everywhere(url)
        assert len(list(redis.scan_iter("*s3-media/doctor/*"))) == SLOTS
        assert redis.info("clients")["connected_clients"] == 1


async def test_a_redis_that_fails_is_not_asked_again_by_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.api.limits.redis.PROBE_SECONDS", 3600.0)
    limit = Limit("issue", Rate(2, 60))
    with running_redis(tmp_path) as url:
        windows = RedisWindows(url)
        Redis.from_url(url).set("LIMITS:" + limit.key("anna"), "no number")
        with capture_logs() as logs:
            burst = await asyncio.gather(*(windows.count(limit, "anna") for _ in range(3)))
            assert burst == [None, None, None]
            assert await windows.count(limit, "berta") is None
        event = "redis is unavailable, so this process counts by itself"
        assert logs == [{"event": event, "log_level": "warning", "reason": "ResponseError"}]
        assert Redis.from_url(url).exists("LIMITS:" + limit.key("berta")) == 0
        await windows.close()


@pytest.mark.parametrize(
    ("error", "name"), [(OSError(), "OSError"), (StorageError(ValueError("secret")), "ValueError")]
)
def test_a_reason_is_the_class_below_the_librarys_own(error: Exception, name: str) -> None:
    assert reason_of(error) == name
