"""Purges off the path of requests: keys are gathered and removed together.

Nothing here must survive a crash. The row of each media has a due date, at which the sweep removes what is left.
"""

import asyncio
from contextvars import Context

import structlog

from broker.aws.bucket import Bucket
from broker.errors import BrokerError

log = structlog.get_logger()

MAX_KEYS = 1000
"""The number of keys that one DeleteObjects takes (Amazon S3 API Reference)."""
MAX_WAITING_KEYS = 20_000


class Purges:
    """Remove keys in the background, up to 1,000 at a time."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._keys: list[str] = []
        self._prefixes: list[str] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, *keys: str) -> None:
        """Remove `keys` soon; beyond MAX_WAITING_KEYS they are left to the sweep."""
        if len(self._keys) + len(keys) > MAX_WAITING_KEYS:
            return
        self._keys += keys
        self._start()

    def add_below(self, prefix: str) -> None:
        """Remove all objects under `prefix` soon; beyond MAX_WAITING_KEYS prefixes they are left to the sweep."""
        if len(self._prefixes) < MAX_WAITING_KEYS:
            self._prefixes.append(prefix)
            self._start()

    def _start(self) -> None:
        if self._task is None or self._task.done():
            # An empty context: the task belongs to no request.
            self._task = asyncio.get_running_loop().create_task(self._run(), context=Context())

    async def finish(self) -> None:
        """Return once no key waits."""
        while self._task is not None and not self._task.done():
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while self._keys or self._prefixes:
            batch, self._keys = self._keys[:MAX_KEYS], self._keys[MAX_KEYS:]
            below, self._prefixes = self._prefixes[:1], self._prefixes[1:]
            try:
                if batch:
                    await self._bucket.purge(*batch)
                for prefix in below:
                    await self._bucket.purge_below(prefix)
            except BrokerError as error:
                log.info("objects are left to the sweep", count=len(batch + below), reason=str(error))
            except Exception:
                log.exception("objects are left to the sweep", count=len(batch + below))
