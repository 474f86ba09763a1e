"""Windows in Redis, which several processes count together."""

import asyncio
import time

import structlog

from broker.api.limits.redis_storage import (
    ANSWER_SECONDS,
    CONNECTIONS,
    FAILURES,
    close_storage,
    open_storage,
    reason_of,
)
from broker.api.limits.windows import Limit, Window

COUNT_SECONDS = ANSWER_SECONDS
"""How long Redis may take to count one request."""
PROBE_SECONDS = 1.0
"""The pause between two probes of an unavailable Redis."""
PROBE_KEY = "s3-media/probe"

log = structlog.get_logger()


class RedisWindows:
    """Count fixed windows in the Redis of an address such as `redis://host:6379/0` or `redis+cluster://host:6379`.

    After a failure one task probes Redis until it answers. Meanwhile no request asks Redis or waits for it.
    """

    def __init__(self, url: str) -> None:
        self._storage = open_storage(url)
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
                    log.warning("redis is unavailable, so this process counts by itself", reason=reason_of(error))
                    self._probing = asyncio.create_task(self._probe_until_it_answers())
                return None
            return Window(time.monotonic() + expires_at - time.time(), count)

    async def close(self) -> None:
        """Close the connections."""
        if self._probing is not None:
            self._probing.cancel()
        await close_storage(self._storage)

    async def _probe_until_it_answers(self) -> None:
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            try:
                async with asyncio.timeout(COUNT_SECONDS):
                    await self._storage.incr(PROBE_KEY, 1)
            except FAILURES:
                continue
            except Exception as error:
                log.warning("redis could not be probed", reason=reason_of(error))
                continue
            log.info("redis is available again")
            self._probing = None
            return
