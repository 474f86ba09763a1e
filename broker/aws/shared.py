"""A call that many callers share: the sweep asks thousands of times a second whether the bucket is there."""

import asyncio
from collections.abc import Awaitable, Callable


class Shared:
    """Run a call once for all callers that wait for it, and never twice at a time."""

    def __init__(self, call: Callable[[], Awaitable[None]]) -> None:
        self._call = call
        self._running: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None

    async def join(self) -> None:
        """Wait for the next call, and return or raise as it does. A call under way may answer what was true before."""
        if self._next is None:
            self._next = asyncio.create_task(self._run(self._running))
        await asyncio.shield(self._next)

    async def _run(self, earlier: "asyncio.Task[None] | None") -> None:
        if earlier is not None:
            await asyncio.wait([earlier])
        self._running, self._next = self._next, None
        await self._call()
