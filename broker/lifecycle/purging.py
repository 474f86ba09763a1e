"""Purges: keys of many callers, gathered and removed together.

Nothing here must survive a crash. The row of each media has a due date, at which the sweep removes what is left.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from contextvars import Context, copy_context
from typing import NamedTuple

import structlog

from broker.aws.deletion import Deleted, Deletion
from broker.errors import BrokerError

log = structlog.get_logger()

MAX_KEYS = 1000
"""The number of keys that one DeleteObjects takes (Amazon S3 API Reference)."""
MAX_WAITING_KEYS = 20_000
MAX_JOBS = 1000
JOBS_AT_ONCE = 4
"""The number of resumable uploads whose parts are removed at a time."""
GATHER_SECONDS = 0.02
"""How long a key waits for others to share its request, if another request is under way."""
STOP_SECONDS = 5.0
"""How long a stop waits for the purges."""


class _Removal(NamedTuple):
    key: str
    is_gone: "asyncio.Future[bool] | None"
    """The future of the caller that waits for the removal, if one does."""


class Purges:
    """Remove keys, up to 1,000 with one request. Several requests may be under way, so none delays the others."""

    def __init__(self, deletion: Deletion) -> None:
        self._deletion = deletion
        self._gathered: list[_Removal] = []
        self._waiting = 0
        """The number of keys that are gathered or being removed."""
        self._jobs = 0
        self._turns = asyncio.Semaphore(JOBS_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, *keys: str) -> None:
        """Remove `keys` in the background; beyond MAX_WAITING_KEYS they are left to the sweep."""
        if self._waiting + len(keys) <= MAX_WAITING_KEYS:
            for key in keys:
                self._gather(_Removal(key, None))

    def add_job(self, job: Callable[[], Awaitable[object]]) -> None:
        """Run a purge of its own kind in the background; beyond MAX_JOBS they are left to the sweep."""
        if self._jobs < MAX_JOBS:
            self._jobs += 1
            Context().run(self._begin, self._run(job))  # it belongs to no request

    async def remove(self, *keys: str) -> bool:
        """Remove one bounded turn of what is stored under `keys`, and return whether nothing is left.

        Raises StorageUnavailable and StorageRefused, as calls to the bucket do.
        """
        loop = asyncio.get_running_loop()
        outcomes: list[asyncio.Future[bool]] = [loop.create_future() for _ in keys]
        for key, is_gone in zip(keys, outcomes, strict=True):
            self._gather(_Removal(key, is_gone))
        return all(await asyncio.gather(*outcomes))

    async def close(self) -> None:
        """Finish within STOP_SECONDS, and leave the rest to the sweep."""
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self.finish()
        if late := [*self._tasks]:
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
            log.info("objects are left to the sweep", count=len(late), reason="the process stops")

    async def finish(self) -> None:
        """Return once no key waits."""
        while self._gathered or self._tasks:
            self._flush()
            await asyncio.wait(self._tasks)

    def _gather(self, removal: _Removal) -> None:
        self._gathered.append(removal)
        self._waiting += 1
        # An empty context for keys of the background, which belong to no request.
        context = Context() if removal.is_gone is None else copy_context()
        if len(self._gathered) >= MAX_KEYS:
            context.run(self._flush)
        elif self._timer is None:
            seconds = GATHER_SECONDS if self._tasks else 0
            self._timer = asyncio.get_running_loop().call_later(seconds, self._flush, context=context)

    def _flush(self) -> None:
        """Begin to remove what was gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._gathered:
            removals, self._gathered = self._gathered, []
            self._begin(self._remove(removals))

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _remove(self, removals: Sequence[_Removal]) -> None:
        """Remove the keys by one request. In a versioned bucket, the versions of each key then follow, in parallel."""
        waiting: dict[str, list[_Removal]] = {}
        for removal in removals:
            waiting.setdefault(removal.key, []).append(removal)
        try:
            deleted = await self._deletion.delete(list(waiting))
        except Exception as error:
            deleted = Deleted(failures=dict.fromkeys(waiting, error))
        for key, of_key in waiting.items():
            if key in deleted.versioned:
                self._begin(self._remove_versions(key, of_key))
            else:
                self._answer(of_key, deleted.failures.get(key, True))
        left = [key for key in deleted.failures if any(removal.is_gone is None for removal in waiting[key])]
        if left:
            _log_left(len(left), deleted.failures[left[0]])

    async def _run(self, job: Callable[[], Awaitable[object]]) -> None:
        try:
            async with self._turns:
                await job()
        except Exception as error:
            _log_left(1, error)
        finally:
            self._jobs -= 1

    async def _remove_versions(self, key: str, removals: list[_Removal]) -> None:
        outcome: bool | Exception
        try:
            outcome = await self._deletion.purge_versions(key)
        except Exception as error:
            _log_left(1, error)
            outcome = error
        self._answer(removals, outcome)

    def _answer(self, removals: list[_Removal], outcome: bool | Exception) -> None:
        self._waiting -= len(removals)
        for is_gone in (removal.is_gone for removal in removals):
            if is_gone is None or is_gone.done():
                continue
            if isinstance(outcome, Exception):
                is_gone.set_exception(outcome)
            else:
                is_gone.set_result(outcome)


def _log_left(count: int, error: Exception) -> None:
    if isinstance(error, BrokerError):
        log.info("objects are left to the sweep", count=count, reason=str(error))
    else:
        log.error("objects are left to the sweep", count=count, exc_info=error)
