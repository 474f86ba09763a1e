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
COUNT_SECONDS = 2.0
"""How long Redis may take to count one request."""
PROBE_SECONDS = 1.0
"""The pause between two probes of an unavailable Redis."""
PROBE_KEY = "s3-media/probe"
FAILURES = (TimeoutError, OSError, StorageError)

log = structlog.get_logger()


class RedisWindows:
    """Count fixed windows in the Redis of an address such as `redis://host:6379/0`.

    After a failure one task probes Redis until it answers. Meanwhile no request asks Redis or waits for it.
    """

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
        self._probing: asyncio.Task[None] | None = None

    async def count(self, limit: Limit, client: str) -> Window | None:
        """Count one more request of `client`. Return the window, or None if Redis is unavailable.

        The end of the window is fetched only if the count exceeds the limit.
        """
        if self._probing is not None:
            return None
        # Waiting for a turn says nothing about Redis: a burst must not look like an outage.
        async with self._turns:
            if self._probing is not None:
                return None
            key = limit.key(client)
            try:
                async with asyncio.timeout(COUNT_SECONDS):
                    count = await self._storage.incr(key, limit.seconds)
                    expires_at = await self._storage.get_expiry(key) if count > limit.amount else 0.0
            except FAILURES as error:
                if self._probing is None:
                    log.warning("redis is unavailable, so this process counts by itself", reason=type(error).__name__)
                    self._probing = asyncio.create_task(self._probe_until_it_answers())
                return None
            return Window(time.monotonic() + expires_at - time.time(), count)

    async def close(self) -> None:
        """Close the connections."""
        if self._probing is not None:
            self._probing.cancel()
        await self._connections.disconnect()

    async def _probe_until_it_answers(self) -> None:
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            try:
                async with asyncio.timeout(COUNT_SECONDS):
                    await self._storage.incr(PROBE_KEY, 1)
            except FAILURES:
                continue
            log.info("redis is available again")
            self._probing = None
            return
