"""Places: a bounded number of tasks, and the ends of the waits for them."""

import asyncio

import pytest

from broker.worker import places
from broker.worker.places import Places

pytestmark = pytest.mark.timeout(10)


@pytest.fixture(autouse=True)
def hardly_gathering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "GATHER_SECONDS", 0.01)


async def turns(count: int = 5) -> None:
    """Let every task that can go on do so."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_places_are_reserved_as_far_as_there_are_some() -> None:
    held = Places(5)
    assert [await held.reserve(3), await held.reserve(3)] == [3, 2]
    held.release(1)
    assert await held.reserve(1) == 1


async def test_a_reservation_of_what_is_free_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "GATHER_SECONDS", 3600)
    assert await Places(5).reserve(5) == 5


async def test_a_reservation_gathers_places_that_are_about_to_be_free() -> None:
    held = Places(5)
    await held.reserve(4)
    reserving = asyncio.create_task(held.reserve(3))
    await turns()
    assert not reserving.done()
    held.release(4)
    assert await reserving == 3


async def test_a_reservation_waits_until_a_task_ends() -> None:
    held, may_end = Places(1), asyncio.Event()
    assert await held.reserve(1) == 1
    held.start(may_end.wait())
    reserving = asyncio.create_task(held.reserve(9))
    await turns()
    assert not reserving.done()
    may_end.set()
    assert await reserving == 1


async def test_nothing_is_reserved_once_closed() -> None:
    free, full = Places(5), Places(1)
    await full.reserve(1)
    waiting = asyncio.create_task(full.reserve(1))
    gathering = asyncio.create_task(free.reserve(9))
    await turns()
    for each in (free, full):
        each.close()
    assert [await waiting, await gathering, await free.reserve(1), await full.reserve(1)] == [0, 0, 0, 0]


async def test_a_wait_for_emptiness_ends_with_the_last_task() -> None:
    held, ends = Places(2), [asyncio.Event(), asyncio.Event()]
    await held.wait_until_empty(3600)
    await held.reserve(2)
    for end in ends:
        held.start(end.wait())
    waiting = asyncio.create_task(held.wait_until_empty(3600))
    ends[0].set()
    await turns()
    assert not waiting.done()
    ends[1].set()
    await waiting


@pytest.mark.parametrize("close", [True, False])
async def test_a_wait_for_emptiness_ends_after_its_time_or_once_closed(close: bool) -> None:
    held, never = Places(1), asyncio.Event()
    await held.reserve(1)
    held.start(never.wait())
    waiting = asyncio.create_task(held.wait_until_empty(3600 if close else 0.01))
    await turns()
    if close:
        held.close()
    await waiting
    assert await held.finish(0) == 1


async def test_a_finish_waits_for_quick_tasks_and_cancels_late_ones() -> None:
    held, end, never, cancelled = Places(3), asyncio.Event(), asyncio.Event(), []
    assert await held.finish(3600) == 0

    async def late() -> None:
        try:
            await never.wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            cancelled.append(True)
            raise

    await held.reserve(3)
    held.start(end.wait())
    for _ in range(2):
        held.start(late())
    await turns()
    end.set()
    assert await held.finish(0.05) == 2
    assert cancelled == [True, True]
    assert await held.finish(3600) == 0
