"""A bounded number of tasks that run side by side, so that one that takes long delays no other."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

GATHER_SECONDS = 0.02
"""How long a reservation waits for the places that it lacks, because each claim or receive is a request."""


class Places:
    """Run at most `limit` tasks at a time: reserve places, start tasks in them, release the rest.

    The tasks handle their own errors.
    """

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._running: set[asyncio.Task[Any]] = set()
        self._changed = asyncio.Event()
        self._closed = False

    async def reserve(self, wanted: int) -> int:
        """Reserve up to `wanted` places, at least one, and return their number; 0 once closed."""
        while not self._free and not self._closed:
            self._changed.clear()
            await self._changed.wait()
        if self._free < wanted and not self._closed:
            await asyncio.sleep(GATHER_SECONDS)
        if self._closed:
            return 0
        reserved = min(wanted, self._free)
        self._free -= reserved
        return reserved

    def start(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run `work` in a reserved place."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._leave)

    def release(self, count: int) -> None:
        """Give back reserved places in which no task was started."""
        self._free += count
        self._changed.set()

    async def wait_until_empty(self, seconds: float) -> None:
        """Return once no task runs, after `seconds`, or once closed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._running and not self._closed:
                    self._changed.clear()
                    await self._changed.wait()

    def close(self) -> None:
        """End every wait for a place; none is reserved any more."""
        self._closed = True
        self._changed.set()

    async def finish(self, seconds: float) -> int:
        """Wait for the running tasks, cancel those that take longer than `seconds`, and return their number."""
        if not self._running:
            return 0
        _, late = await asyncio.wait(self._running, timeout=seconds)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        return len(late)

    def _leave(self, task: "asyncio.Task[Any]") -> None:
        self._running.discard(task)
        self.release(1)
