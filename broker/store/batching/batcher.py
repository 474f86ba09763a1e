"""Batches: threads that run the operations of many coroutines together.

A coroutine submits an operation and awaits its future. The operations of one iteration of an event loop are handed over
together. A thread takes all that have gathered, runs them as one batch, and resolves the batch with one call into each
loop. So no operation blocks the loop, and many requests share one commit, one query or one change of threads.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Generic, NamedTuple, TypeVar

from broker.errors import DatabaseUnavailable

T = TypeVar("T")

GATHER_SECONDS = 0.005
"""How long further iterations of an event loop may add operations to a batch."""
LATE_CHECK_SECONDS = 0.1
"""How often an event loop looks for operations that have taken too long; only while there are any."""
LATE_FACTOR = 1.5
"""An operation fails unanswered after this multiple of the patience. The database's own timeouts come first, because
they undo what they end."""

logger = logging.getLogger(__name__)


class Operation(Generic[T]):
    """An operation on the database whose outcome is a T."""

    __slots__ = ()


class _Submitted(NamedTuple):
    operation: Operation[Any]
    future: "asyncio.Future[Any]"
    at: float


Run = Callable[[Sequence[Operation[Any]]], Sequence[object]]
"""Run a batch and return one outcome for each operation: an exception if it failed."""


class Batcher:
    """Run operations in batches of about `limit`, less than twice as many, on `threads` threads.

    The threads start with the first operation. An operation that was not begun within `patience_seconds` never is, and
    one that was not answered within LATE_FACTOR times that fails. Both raise DatabaseUnavailable.
    """

    def __init__(self, name: str, run: Run, *, limit: int, threads: int, patience_seconds: float) -> None:
        self._name = name
        self._run = run
        self._limit = limit
        self._patience_seconds = patience_seconds
        self._gathered: dict[asyncio.AbstractEventLoop, list[_Submitted]] = {}
        self._unanswered: dict[asyncio.AbstractEventLoop, deque[list[_Submitted]]] = {}
        """The operations that were handed over together, the oldest first."""
        self._queue: SimpleQueue[list[_Submitted] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True) for number in range(threads)
        ]
        self._changing = threading.Lock()
        """Held while the batcher starts or closes, and while operations are handed over."""
        self._started = False
        self._closed = False

    def submit(self, operation: Operation[T]) -> "asyncio.Future[T]":
        """Return the future of the outcome; it belongs to the running loop. Raises DatabaseUnavailable once closed."""
        if not self._started:
            self._start()
        if self._closed:
            raise DatabaseUnavailable
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        gathered = self._gathered.get(loop)
        if gathered is None:
            gathered = self._gathered[loop] = []
            loop.call_soon(self._hand_over, loop, 0, loop.time() + GATHER_SECONDS)
            self._expect_answers(loop, gathered)
        gathered.append(_Submitted(operation, future, time.monotonic()))
        return future

    def _expect_answers(self, loop: asyncio.AbstractEventLoop, gathered: list[_Submitted]) -> None:
        unanswered = self._unanswered.get(loop)
        if unanswered is None:
            unanswered = self._unanswered[loop] = deque()
            loop.call_later(LATE_CHECK_SECONDS, self._fail_late, loop)
        unanswered.append(gathered)

    def _fail_late(self, loop: asyncio.AbstractEventLoop) -> None:
        """Fail what waits for too long, even if a thread never comes back from the database."""
        unanswered = self._unanswered[loop]
        patient_since = time.monotonic() - LATE_FACTOR * self._patience_seconds
        while unanswered and _are_answered(unanswered[0], patient_since):
            unanswered.popleft()
        if unanswered:
            loop.call_later(LATE_CHECK_SECONDS, self._fail_late, loop)
        else:
            del self._unanswered[loop]

    async def close(self) -> None:
        """Finish the submitted operations, then end the threads."""
        # What is still being gathered is handed over only in a later iteration of the loop.
        if gathered := self._gathered.get(asyncio.get_running_loop()):
            await asyncio.wait([submitted.future for submitted in gathered])
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        with self._changing:
            self._closed = True
            self._queue.put(None)
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _start(self) -> None:
        with self._changing:
            if not self._started and not self._closed:
                for thread in self._threads:
                    thread.start()
                self._started = True

    def _hand_over(self, loop: asyncio.AbstractEventLoop, known: int, until: float) -> None:
        """Hand the gathered operations to the threads; if the last iteration added some, wait for one more."""
        count = len(self._gathered[loop])
        if known < count < self._limit and loop.time() < until:
            loop.call_soon(self._hand_over, loop, count, until)
            return
        gathered = self._gathered.pop(loop)
        with self._changing:
            if not self._closed:
                for first in range(0, count, self._limit):
                    self._queue.put(gathered[first : first + self._limit])
                return
        _answer(gathered, [DatabaseUnavailable() for _ in gathered])

    def _work(self) -> None:
        while (batch := self._queue.get()) is not None:
            while len(batch) < self._limit and (added := self._next()) is not None:
                batch += added
            self._settle(batch)
        # None ends every thread.
        self._queue.put(None)

    def _next(self) -> list[_Submitted] | None:
        try:
            batch = self._queue.get_nowait()
        except Empty:
            return None
        if batch is None:
            # Put back for the outer loop, which ends.
            self._queue.put(None)
        return batch

    def _settle(self, batch: list[_Submitted]) -> None:
        patient_since = time.monotonic() - self._patience_seconds
        if batch[0].at < patient_since:
            late = [submitted for submitted in batch if submitted.at < patient_since]
            _answer(late, [DatabaseUnavailable() for _ in late])
        # An operation that was cancelled or has failed has no waiter, and nothing of it has been done.
        awaited = [submitted for submitted in batch if submitted.at >= patient_since and not submitted.future.done()]
        if awaited:
            _answer(awaited, self._outcomes([submitted.operation for submitted in awaited]))

    def _outcomes(self, operations: Sequence[Operation[Any]]) -> Sequence[object]:
        try:
            return self._run(operations)
        except Exception:
            # The thread goes on, because later operations depend on it.
            logger.exception("a batch of the %s failed", self._name)
            return [DatabaseUnavailable() for _ in operations]


def _are_answered(operations: Sequence[_Submitted], patient_since: float) -> bool:
    """Fail the operations that were submitted before `patient_since`; return whether none waits for an answer."""
    for submitted in operations:
        if not submitted.future.done():
            if submitted.at >= patient_since:
                return False
            submitted.future.set_exception(DatabaseUnavailable())
    return True


def _answer(batch: Sequence[_Submitted], outcomes: Sequence[object]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], object]]] = {}
    for submitted, outcome in zip(batch, outcomes, strict=True):
        by_loop.setdefault(submitted.future.get_loop(), []).append((submitted.future, outcome))
    for loop, answers in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, answers)
        except RuntimeError:
            logger.debug("an event loop was closed before %d outcomes reached it", len(answers))


def _resolve(answers: Sequence[tuple["asyncio.Future[Any]", object]]) -> None:
    for future, outcome in answers:
        if future.done():
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
