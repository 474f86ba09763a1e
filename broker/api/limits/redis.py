"""Windows in Redis, which several processes count together."""

import asyncio
import time
from typing import Any

import structlog
from limits.aio.storage import RedisStorage
from limits.errors import StorageError
from redis.asyncio import BlockingConnectionPool

from broker.api.limits.windows import Limit, Window

CONNECTIONS = 16
COUNT_SECONDS = 5.0
"""How long Redis may take to count one request."""
REST_SECONDS = 5.0
"""How long Redis is not asked after a failure."""

log = structlog.get_logger()


class RedisWindows:
    """Count fixed windows in the Redis of an address such as `redis://host:6379/0`."""

    def __init__(self, url: str) -> None:
        self._connections = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=COUNT_SECONDS,
            socket_timeout=COUNT_SECONDS,
            socket_connect_timeout=COUNT_SECONDS,
        )
        options: Any = {"connection_pool": self._connections}
        self._storage = RedisStorage(f"async+{url}", wrap_exceptions=True, implementation="redispy", **options)
        self._turns = asyncio.Semaphore(CONNECTIONS)
        self._rests_until = 0.0

    async def count(self, limit: Limit, client: str) -> Window | None:
        """Count one more request of `client`. Return the window, or None if Redis is unavailable.

        The end of the window is fetched only if the count exceeds the limit.
        """
        # Waiting for a turn says nothing about Redis: a burst must not look like an outage.
        async with self._turns:
            if time.monotonic() < self._rests_until:
                return None
            key = limit.key(client)
            try:
                async with asyncio.timeout(COUNT_SECONDS):
                    count = await self._storage.incr(key, limit.seconds)
                    ends_at = await self._storage.get_expiry(key) if count > limit.amount else 0.0
                    return Window(ends_at, count)
            except (TimeoutError, OSError, StorageError) as error:
                self._rest(error)
                return None

    async def close(self) -> None:
        """Close the connections."""
        await self._connections.disconnect()

    def _rest(self, error: Exception) -> None:
        """Stop asking Redis for a while."""
        self._rests_until = time.monotonic() + REST_SECONDS
        log.warning("redis is unavailable, so this process counts by itself", reason=type(error).__name__)
