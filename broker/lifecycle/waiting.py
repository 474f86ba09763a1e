"""Long polling: a request that waits until a media has settled, which every proxy lets through.

A waiting request holds no database connection: it polls, and all requests that poll at the same moment share one query.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from time import monotonic
from uuid import UUID

from broker.domain.media import State
from broker.store import Store

MAX_WAIT_SECONDS = 25
"""The longest wait of one request; proxies and load balancers time out after 30 to 60 seconds of silence."""
MAX_WAITERS = 1000
"""The number of requests that may wait in one process; further ones are answered at once, and poll again."""
MAX_WAITERS_PER_CALLER = 20
FIRST_REST_SECONDS = 0.25
MAX_REST_SECONDS = 2.0
UNSETTLED = frozenset({State.PENDING, State.PROMOTING})

Wanted = Callable[[], Awaitable[bool]]
"""Returns whether the client is still connected."""


class Waiting:
    """Let requests wait, and bound their number."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiters: Counter[str] = Counter()
        self._ended = asyncio.Event()

    def end(self) -> None:
        """End every wait, because the process is about to stop and another one can be polled."""
        self._ended.set()

    async def until_settled(
        self, media_id: UUID, owner: str | None, *, waiter: str, seconds: float, wanted: Wanted
    ) -> None:
        """Return when the media is neither pending nor promoting, or after `seconds`.

        Return early if the client has left, the process stops, or too many requests of `waiter`, or of all callers,
        wait already. Raises MediaNotFound, also for another owner's media.
        """
        ends = monotonic() + min(seconds, MAX_WAIT_SECONDS)
        rest = FIRST_REST_SECONDS
        async with self._counted(waiter) as may_wait:
            while (await self._store.get(media_id, owner)).state in UNSETTLED:
                left = ends - monotonic()
                if left <= 0 or not may_wait or self._ended.is_set() or not await wanted():
                    return
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(rest, left)):
                        await self._ended.wait()
                rest = min(rest * 1.5, MAX_REST_SECONDS)

    @asynccontextmanager
    async def _counted(self, waiter: str) -> AsyncIterator[bool]:
        may_wait = self._waiters.total() < MAX_WAITERS and self._waiters[waiter] < MAX_WAITERS_PER_CALLER
        self._waiters[waiter] += 1
        try:
            yield may_wait
        finally:
            self._waiters[waiter] -= 1
            if not self._waiters[waiter]:
                del self._waiters[waiter]
