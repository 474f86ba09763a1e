"""How often somebody may ask: fixed windows, counted in this process or, for several processes, in Redis.

Sources: RFC 6585, section 4 (429); the IETF's draft "RateLimit header fields for HTTP" for the headers.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, Literal

import structlog
from limits import RateLimitItem, parse
from limits.aio.storage import RedisStorage, Storage
from limits.errors import StorageError

from broker.errors import RateLimited

if TYPE_CHECKING:
    from redis.asyncio import BlockingConnectionPool

Kind = Literal["address", "issue", "complete", "delete", "playback", "form", "health"]
"""What is counted: all of an address before its token is looked at, and then each thing by itself."""

MAX_COUNTERS = 100_000
"""How many windows one process counts at most; beyond that the oldest makes room."""
REDIS_CONNECTIONS = 16
REDIS_SECONDS = 5.0
"""How long Redis may take to count one request, once it is that request's turn."""
REDIS_REST_SECONDS = 5.0
"""For how long Redis is left alone after it failed."""

log = structlog.get_logger()


class BoundedMemory(Storage):
    """Count fixed windows in this process, at a constant cost for each request and within a bounded memory.

    The library's own memory looks through all its counters whenever it counts.
    """

    STORAGE_SCHEME = None
    base_exceptions = ()

    def __init__(self) -> None:
        super().__init__()
        self._windows: dict[str, tuple[int, float]] = {}

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count `amount` more and return the sum within the window, which is `expiry` seconds long."""
        now = time.time()
        count, ends_at = self._windows.get(key, (0, 0.0))
        if now >= ends_at:
            self._windows.pop(key, None)
            if len(self._windows) >= MAX_COUNTERS:
                del self._windows[next(iter(self._windows))]
            count, ends_at = 0, now + expiry
        self._windows[key] = (count + amount, ends_at)
        return count + amount

    async def get(self, key: str) -> int:
        """Return the sum within the window."""
        count, ends_at = self._windows.get(key, (0, 0.0))
        return count if time.time() < ends_at else 0

    async def get_expiry(self, key: str) -> float:
        """Return when the window ends."""
        return self._windows.get(key, (0, time.time()))[1]

    async def check(self) -> bool:
        """Tell that counting works."""
        return True

    async def reset(self) -> int:
        """Forget all windows; return how many there were."""
        count = len(self._windows)
        self._windows.clear()
        return count

    async def clear(self, key: str) -> None:
        """Forget one window."""
        self._windows.pop(key, None)


@dataclass(frozen=True, slots=True)
class Standing:
    """Say how much of a limit is left."""

    kind: Kind
    amount: int
    seconds: int
    remaining: int

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the fields that tell a client, as ASGI sends them."""
        return [
            (b"ratelimit-policy", f'"{self.kind}";q={self.amount};w={self.seconds}'.encode()),
            (b"ratelimit", f'"{self.kind}";r={self.remaining}'.encode()),
        ]


class Limits:
    """Count requests and refuse those beyond a limit.

    Where Redis does not answer, this process counts by itself until it does: a limit then holds for each process.
    """

    def __init__(self, items: Mapping[Kind, RateLimitItem | None], *, redis_url: str | None = None) -> None:
        self._items = items
        self._memory = BoundedMemory()
        self._redis: RedisStorage | None = None
        self._connections: BlockingConnectionPool | None = None
        if redis_url is not None:
            self._redis, self._connections = _redis(redis_url)
        self._redis_rests_until = 0.0
        self._turns = asyncio.Semaphore(REDIS_CONNECTIONS)

    async def count(self, kind: Kind, who: str) -> Standing | None:
        """Count one request of `who`; None: there is no limit of this kind. Raises RateLimited."""
        item = self._items.get(kind)
        if item is None:
            return None
        key, seconds = item.key_for(kind, who), item.get_expiry()
        count, ends_at = await self._count(key, seconds, item.amount)
        if count > item.amount:
            wait = max(1, min(seconds, int(ends_at - time.time()) + 1))
            raise RateLimited(limit=f"{item.amount} in {seconds} seconds", retry_after=wait, kind=kind)
        return Standing(kind, item.amount, seconds, item.amount - count)

    async def close(self) -> None:
        """Let go of the connections to Redis."""
        if self._connections is not None:
            await self._connections.disconnect()

    async def _count(self, key: str, seconds: int, amount: int) -> tuple[int, float]:
        """Return the count within the window and, beyond `amount`, when the window ends."""
        if self._redis is not None:
            # Waiting for a turn says nothing about Redis: a burst must not look like a Redis that is away.
            async with self._turns:
                if time.monotonic() >= self._redis_rests_until:
                    try:
                        async with asyncio.timeout(REDIS_SECONDS):
                            return await _count_in(self._redis, key, seconds, amount)
                    except (TimeoutError, OSError, StorageError) as error:
                        self._rest(error)
        return await _count_in(self._memory, key, seconds, amount)

    def _rest(self, error: Exception) -> None:
        """Leave Redis alone for a while."""
        self._redis_rests_until = time.monotonic() + REDIS_REST_SECONDS
        log.warning("redis is away, so this process counts by itself", reason=type(error).__name__)


async def _count_in(storage: Storage, key: str, seconds: int, amount: int) -> tuple[int, float]:
    count = await storage.incr(key, seconds)
    return count, await storage.get_expiry(key) if count > amount else 0.0


def _redis(url: str) -> "tuple[RedisStorage, BlockingConnectionPool]":
    from redis.asyncio import BlockingConnectionPool  # an optional dependency

    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=REDIS_CONNECTIONS,
        timeout=REDIS_SECONDS,
        socket_timeout=REDIS_SECONDS,
        socket_connect_timeout=REDIS_SECONDS,
    )
    options: Any = {"connection_pool": pool}
    return RedisStorage(f"async+{url}", wrap_exceptions=True, implementation="redispy", **options), pool


def limit_of(notation: str) -> RateLimitItem | None:
    """Return the limit that a text such as `60/minute` means; None for `off`."""
    return None if notation == "off" else parse(notation)


@lru_cache(maxsize=4096)
def counted_address(host: str | None) -> str:
    """Return what is counted as one address: an IPv4 address, or the 64 bits that one IPv6 subscriber has."""
    try:
        address = ip_address((host or "").partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(IPv6Address(int(address) >> 64 << 64))
    return str(address)
