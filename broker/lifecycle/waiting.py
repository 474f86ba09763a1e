"""Wait until a media has settled, for as long as one request may: long polling, which any proxy lets through.

Who waits holds no connection to the database: it looks, rests, and looks again, and all that look at the same moment
are answered by one query.
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
"""How long one request may wait: proxies and load balancers hang up after 30 to 60 seconds of silence."""
MAX_WAITERS = 1000
"""How many requests wait in one process at a time; more are answered at once, and ask again."""
MAX_WAITERS_OF_ONE = 20
FIRST_REST_SECONDS = 0.25
MAX_REST_SECONDS = 2.0
UNDER_WAY = frozenset({State.PENDING, State.PROMOTING})

Wanted = Callable[[], Awaitable[bool]]


class Waiting:
    """Keep count of who waits for what."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiters: Counter[str] = Counter()
        self._ended = asyncio.Event()

    def end(self) -> None:
        """Let nobody wait any more: the process is about to stop, and another one can be asked."""
        self._ended.set()

    async def until_settled(
        self, media_id: UUID, owner: str | None, *, waiter: str, seconds: float, wanted: Wanted
    ) -> None:
        """Return once the media is neither pending nor promoting, nobody wants to know or may wait any more, or time is
        up.

        `waiter` is who is counted. Raises MediaNotFound, also for another owner's.
        """
        ends = monotonic() + min(seconds, MAX_WAIT_SECONDS)
        rest = FIRST_REST_SECONDS
        async with self._counted(waiter) as may_wait:
            while (await self._store.get(media_id, owner)).state in UNDER_WAY:
                left = ends - monotonic()
                if left <= 0 or not may_wait or self._ended.is_set() or not await wanted():
                    return
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(rest, left)):
                        await self._ended.wait()
                rest = min(rest * 1.5, MAX_REST_SECONDS)

    @asynccontextmanager
    async def _counted(self, waiter: str) -> AsyncIterator[bool]:
        may_wait = self._waiters.total() < MAX_WAITERS and self._waiters[waiter] < MAX_WAITERS_OF_ONE
        self._waiters[waiter] += 1
        try:
            yield may_wait
        finally:
            self._waiters[waiter] -= 1
            if not self._waiters[waiter]:
                del self._waiters[waiter]
