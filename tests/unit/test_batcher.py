"""Batches without a database: what is gathered, what a thread runs together, and what fails unanswered."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import Empty
from types import SimpleNamespace
from typing import Any

import pytest

from broker.errors import DatabaseUnavailable
from broker.store.batching import batcher as batching
from broker.store.batching.batcher import Batcher, Operation

pytestmark = pytest.mark.timeout(20)


class Number(Operation[int]):
    """An operation with a number, which is its outcome."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


@dataclass
class Runs:
    """Keep the numbers of each batch; a test may hold a batch, or fail it."""

    batches: list[list[int]] = field(default_factory=list)
    begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    may_end: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None

    def __call__(self, operations: Sequence[Any]) -> Sequence[object]:
        self.batches.append([operation.number for operation in operations])
        self.begun.release()
        self.may_end.wait()
        if self.error:
            raise self.error
        return [ValueError(each.number) if each.number < 0 else each.number for each in operations]

    async def until_one_begins(self) -> None:
        assert await asyncio.to_thread(self.begun.acquire, timeout=10)


Open = Callable[..., Batcher]


@pytest.fixture
def runs() -> Runs:
    return Runs()


@pytest.fixture
def open_batcher(runs: Runs) -> Iterator[Open]:
    """Return a function that opens a batcher of `runs`; the threads of all are ended afterwards."""
    opened: list[Batcher] = []

    def open_one(*, limit: int = 3, threads: int = 1, patience_seconds: float = 30) -> Batcher:
        opened.append(Batcher("writer", runs, limit=limit, threads=threads, patience_seconds=patience_seconds))
        return opened[-1]

    yield open_one
    runs.may_end.set()
    for batcher in opened:
        batcher._queue.put(None)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the time of submissions in seconds, which a test moves."""
    now = [100.0]
    monkeypatch.setattr(batching, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


@pytest.fixture(autouse=True)
def endless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gather for as long as each iteration of the loop adds operations."""
    monkeypatch.setattr(batching, "GATHER_SECONDS", 600)


def handed_over(batcher: Batcher) -> list[list[int]]:
    """Return the numbers of the batches that wait for a thread."""
    batches: list[list[int]] = []
    while True:
        try:
            batch = batcher._queue.get_nowait()
        except Empty:
            return batches
        assert batch is not None
        operations: list[Any] = [each.operation for each in batch]
        batches.append([operation.number for operation in operations])


async def submitted(batcher: Batcher, iterations: Sequence[int]) -> None:
    """Submit as many operations in each iteration of the loop, numbered from 1, and let it turn twice more."""
    number = 0
    for count in (*iterations, 0, 0):
        for _ in range(count):
            number += 1
            batcher.submit(Number(number))
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("iterations", "batches"),
    [
        ([1], [[1]]),
        ([1, 1], [[1, 2]]),
        ([2, 0, 0, 1], [[1, 2], [3]]),
        ([3, 1], [[1, 2, 3], [4]]),
        ([7], [[1, 2, 3], [4, 5, 6], [7]]),
        ([2, 2], [[1, 2, 3], [4]]),
    ],
    ids=str,
)
async def test_operations_of_following_iterations_are_gathered_up_to_a_batch(
    open_batcher: Open, iterations: list[int], batches: list[list[int]]
) -> None:
    batcher = open_batcher(threads=0)
    await submitted(batcher, iterations)
    assert handed_over(batcher) == batches


async def test_operations_are_not_gathered_for_longer_than_a_moment(
    open_batcher: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "GATHER_SECONDS", 0)
    batcher = open_batcher(threads=0, limit=9)
    await submitted(batcher, [1, 1, 1])
    assert len(handed_over(batcher)) > 1


async def test_a_thread_takes_what_was_handed_over_meanwhile_up_to_a_batch(open_batcher: Open, runs: Runs) -> None:
    batcher = open_batcher()
    futures = [batcher.submit(Number(0))]
    await runs.until_one_begins()
    for count in (2, 2, 1):
        futures += [batcher.submit(Number(len(futures) + number)) for number in range(count)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    runs.may_end.set()
    assert await asyncio.gather(*futures) == [0, 1, 2, 3, 4, 5]
    assert runs.batches == [[0], [1, 2, 3, 4], [5]]
    assert await batcher.submit(Number(6)) == 6


async def test_each_operation_has_its_own_outcome(open_batcher: Open, runs: Runs) -> None:
    runs.may_end.set()
    batcher = open_batcher()
    outcomes = await asyncio.gather(*(batcher.submit(Number(each)) for each in (1, -2, 3)), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["1", "-2", "3"]
    assert isinstance(outcomes[1], ValueError)


async def test_a_batch_that_fails_is_logged_and_the_thread_goes_on(
    open_batcher: Open, runs: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    runs.may_end.set()
    runs.error = ZeroDivisionError()
    batcher = open_batcher()
    outcomes = await asyncio.gather(*(batcher.submit(Number(each)) for each in (1, 2)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [DatabaseUnavailable] * 2
    runs.error = None
    assert await batcher.submit(Number(3)) == 3
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == ("ERROR", "a batch of the writer failed")
    assert record.exc_info is not None


async def test_an_operation_that_was_not_begun_in_time_never_is(
    open_batcher: Open, runs: Runs, now: list[float]
) -> None:
    batcher = open_batcher(patience_seconds=10)
    first = batcher.submit(Number(0))
    await runs.until_one_begins()
    late = batcher.submit(Number(1))
    now[0] += 5
    in_time = batcher.submit(Number(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    now[0] += 10
    runs.may_end.set()
    outcomes = await asyncio.gather(first, late, in_time, return_exceptions=True)
    assert [outcomes[0], type(outcomes[1]), outcomes[2]] == [0, DatabaseUnavailable, 2]
    assert runs.batches == [[0], [2]]


async def test_a_cancelled_operation_is_not_begun(open_batcher: Open, runs: Runs) -> None:
    batcher = open_batcher()
    first, cancelled, other = (batcher.submit(Number(each)) for each in range(3))
    runs.may_end.set()
    cancelled.cancel()
    assert [await first, await other] == [0, 2]
    assert runs.batches == [[0, 2]]


async def test_an_operation_that_is_cancelled_while_it_runs_keeps_no_other_from_its_outcome(
    open_batcher: Open, runs: Runs
) -> None:
    batcher = open_batcher()
    first, cancelled, other = (batcher.submit(Number(each)) for each in range(3))
    await runs.until_one_begins()
    cancelled.cancel()
    runs.may_end.set()
    assert [await first, await other] == [0, 2]
    assert runs.batches == [[0, 1, 2]]


async def test_an_operation_that_is_not_answered_in_time_fails_though_it_may_have_happened(
    open_batcher: Open, runs: Runs, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "LATE_CHECK_SECONDS", 0.001)
    batcher = open_batcher(patience_seconds=10)
    begun = batcher.submit(Number(0))
    await runs.until_one_begins()
    now[0] += 5
    waiting = [batcher.submit(Number(1)), batcher.submit(Number(2))]
    now[0] += 10
    await asyncio.sleep(0.01)
    assert not begun.done()
    now[0] += 1
    with pytest.raises(DatabaseUnavailable):
        await asyncio.wait_for(begun, 10)
    assert not any(future.done() for future in waiting)
    now[0] += 5
    outcomes = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10)
    assert [type(outcome) for outcome in outcomes] == [DatabaseUnavailable] * 2
    async with asyncio.timeout(10):
        while batcher._unanswered:  # nothing is watched any more
            await asyncio.sleep(0.001)
    again = batcher.submit(Number(3))
    runs.may_end.set()
    assert await again == 3
    assert runs.batches == [[0], [3]]


async def test_a_closed_batcher_takes_nothing_and_has_ended_its_threads(open_batcher: Open, runs: Runs) -> None:
    runs.may_end.set()
    batcher = open_batcher(threads=3)
    submitted = batcher.submit(Number(1))
    threads = batcher._threads
    assert [(thread.name, thread.daemon, thread.is_alive()) for thread in threads] == [
        (f"writer-{number}", True, True) for number in range(3)
    ]
    await batcher.close()
    assert await submitted == 1
    assert not any(thread.is_alive() for thread in threads)
    with pytest.raises(DatabaseUnavailable):
        batcher.submit(Number(2))


async def test_a_thread_that_finds_the_end_behind_a_batch_runs_that_batch_first(open_batcher: Open, runs: Runs) -> None:
    batcher = open_batcher(threads=2)
    held = [batcher.submit(Number(0))]
    await runs.until_one_begins()
    held.append(batcher.submit(Number(1)))
    await runs.until_one_begins()
    last = batcher.submit(Number(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    batcher._queue.put(None)  # as closing does
    runs.may_end.set()
    assert [await held[0], await held[1], await last] == [0, 1, 2]
    for thread in batcher._threads:
        await asyncio.to_thread(thread.join, 10)
    assert not any(thread.is_alive() for thread in batcher._threads)


async def test_a_batcher_that_is_closed_before_its_first_operation_starts_no_thread(open_batcher: Open) -> None:
    batcher = open_batcher()
    await batcher.close()
    with pytest.raises(DatabaseUnavailable):
        batcher.submit(Number(1))
    assert [thread.ident for thread in batcher._threads] == [None]


async def test_operations_that_are_gathered_while_the_batcher_closes_fail(open_batcher: Open, runs: Runs) -> None:
    runs.may_end.set()
    batcher = open_batcher()
    await batcher.submit(Number(1))
    late = [batcher.submit(Number(2)), batcher.submit(Number(3))]
    batcher._close()
    outcomes = await asyncio.gather(*late, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [DatabaseUnavailable] * 2


async def test_a_loop_that_was_closed_meanwhile_loses_its_outcomes_alone(
    open_batcher: Open, runs: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    batcher = open_batcher()
    held = batcher.submit(Number(0))
    await runs.until_one_begins()

    async def leave() -> None:
        batcher.submit(Number(1))
        batcher.submit(Number(2))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    with caplog.at_level(logging.DEBUG, logger=batching.__name__):
        await asyncio.to_thread(asyncio.run, leave())
        mine = batcher.submit(Number(3))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        runs.may_end.set()
        assert [await held, await mine] == [0, 3]
    assert runs.batches == [[0], [1, 2, 3]]
    assert [
        (record.levelname, record.getMessage()) for record in caplog.records if record.name == batching.__name__
    ] == [("DEBUG", "an event loop was closed before 2 outcomes reached it")]
