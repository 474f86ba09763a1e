"""The rate limits: fixed windows, counted in this process or, for several processes, in Redis.

Sources: RFC 6585, section 4 (429); the IETF's draft "RateLimit header fields for HTTP" for the headers.
"""

import time
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any

from broker.api.limits.windows import Kind, Limit, SharedWindows, Standing
from broker.domain.access.rate import Rate
from broker.errors import RateLimited


class Limits:
    """Count requests and refuse those beyond a limit.

    While Redis does not answer, each process counts by itself; a limit then holds for each process.
    """

    def __init__(self, rates: Mapping[Kind, Rate | None], redis: SharedWindows | None = None) -> None:
        self._limits = {kind: Limit(kind, rate) for kind, rate in rates.items() if rate is not None}
        self._redis = redis

    async def count(self, kind: Kind, client: str) -> Standing | None:
        """Count one request of `client` (an owner or an address).

        Return the remaining quota, or None if there is no limit of this kind. Raises RateLimited.
        """
        limit = self._limits.get(kind)
        if limit is None:
            return None
        window = None if self._redis is None else await self._redis.count(limit, client)
        if window is None:
            window = limit.here.count(client)
        if window.count > limit.amount:
            wait = max(1, min(limit.seconds, int(window.ends_at - time.monotonic()) + 1))
            raise RateLimited(limit=f"{limit.amount} in {limit.seconds} seconds", retry_after=wait, kind=kind)
        return Standing(limit, limit.amount - window.count)

    def exhausted(self, error: RateLimited) -> Standing:
        """Return the exhausted limit that a RateLimited error refers to."""
        kind: Any = error.facts["kind"]
        return Standing(self._limits[kind], 0)

    async def close(self) -> None:
        """Close the connections to Redis."""
        if self._redis is not None:
            await self._redis.close()


@lru_cache(maxsize=4096)
def counted_address(host: str | None) -> str:
    """Return the key under which an address is counted: the IPv4 address, or the /64 network of an IPv6 address."""
    try:
        address = ip_address((host or "").partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(IPv6Address(int(address) >> 64 << 64))
    return str(address)
