"""How often somebody may ask: fixed windows, counted in this process or, for several processes, in Redis.

Sources: RFC 6585, section 4 (429); the IETF's draft "RateLimit header fields for HTTP" for the headers.
"""

import time
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from broker.domain.rate import Rate
from broker.errors import RateLimited

if TYPE_CHECKING:
    from broker.api.redis_windows import RedisWindows

Kind = Literal["address", "issue", "complete", "delete", "playback", "form", "health"]
"""What is counted: all of an address before its token is looked at, and then each thing by itself."""

MAX_COUNTERS = 100_000
"""How many windows of one kind a process counts at most; beyond that the oldest makes room."""


class BoundedMemory:
    """Count fixed windows of one length, in seconds, in this process: at a constant cost for each request and within a
    bounded memory.

    The memory of the library `limits` looks through all its counters whenever it counts.
    """

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        self._windows: dict[str, Window] = {}

    def count(self, who: str) -> "Window":
        """Count one more; return the window."""
        now = time.time()
        window = self._windows.get(who)
        if window is None or now >= window.ends_at:
            self._windows.pop(who, None)
            if len(self._windows) >= MAX_COUNTERS:
                del self._windows[next(iter(self._windows))]
            window = self._windows[who] = Window(now + self._seconds)
        window.count += 1
        return window


class Window:
    """Hold what was counted until a window ends."""

    __slots__ = ("count", "ends_at")

    def __init__(self, ends_at: float, count: int = 0) -> None:
        self.count = count
        self.ends_at = ends_at


class Limit:
    """One kind of limit: how many requests within how many seconds."""

    def __init__(self, kind: Kind, rate: Rate) -> None:
        self.kind = kind
        self.amount, self.seconds = rate
        self.policy = (b"ratelimit-policy", f'"{kind}";q={self.amount};w={self.seconds}'.encode())
        self.here = BoundedMemory(self.seconds)

    def key(self, who: str) -> str:
        """Return what the requests of `who` are counted under in Redis."""
        return f"s3-media/{self.kind}/{self.amount}/{self.seconds}/{who}"


class Standing(NamedTuple):
    """Say how much of a limit is left."""

    limit: Limit
    remaining: int

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the fields that tell a client, as ASGI sends them."""
        return [self.limit.policy, (b"ratelimit", f'"{self.limit.kind}";r={self.remaining}'.encode())]


class Limits:
    """Count requests and refuse those beyond a limit.

    Where Redis does not answer, this process counts by itself until it does: a limit then holds for each process.
    """

    def __init__(self, rates: Mapping[Kind, Rate | None], redis: "RedisWindows | None" = None) -> None:
        self._limits = {kind: Limit(kind, rate) for kind, rate in rates.items() if rate is not None}
        self._redis = redis

    async def count(self, kind: Kind, who: str) -> Standing | None:
        """Count one request of `who`; None: there is no limit of this kind. Raises RateLimited."""
        limit = self._limits.get(kind)
        if limit is None:
            return None
        window = None if self._redis is None else await self._redis.count(limit, who)
        if window is None:
            window = limit.here.count(who)
        if window.count > limit.amount:
            wait = max(1, min(limit.seconds, int(window.ends_at - time.time()) + 1))
            raise RateLimited(limit=f"{limit.amount} in {limit.seconds} seconds", retry_after=wait, kind=kind)
        return Standing(limit, limit.amount - window.count)

    def exhausted(self, error: RateLimited) -> Standing:
        """Return how the limit stands beyond which somebody asked: nothing is left."""
        kind: Any = error.facts["kind"]
        return Standing(self._limits[kind], 0)

    async def close(self) -> None:
        """Let go of the connections to Redis."""
        if self._redis is not None:
            await self._redis.close()


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
