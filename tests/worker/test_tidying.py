"""The job that removes records: each state after its own time, in batches, and erasures beside them."""

import asyncio
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from broker.domain.access.quota import Quota
from broker.domain.media import Event, Media, State
from broker.errors import DatabaseUnavailable, MediaNotFound
from broker.lifecycle.erasure import Erasure
from broker.worker import tidying
from broker.worker.tidying import Tidying
from tests.support.samples import pending
from tests.support.world import World
from tests.worker.conftest import until

EVENTS = {State.REJECTED: Event.DIFFER, State.EXPIRED: Event.EXPIRE}


def job(world: World, **days: int) -> Tidying:
    keep = {State(name): timedelta(days=count) for name, count in days.items()}
    erasing = Erasure(world.store, world.settlement, clock=world.clock)
    return Tidying(world.store, erasing, keep=keep, rest_seconds=0.05, clock=world.clock)


async def ended(world: World, state: State, count: int = 1) -> list[Media]:
    media = [await world.store.add(pending(), Quota()) for _ in range(count)]
    for each in media:
        assert await world.store.change(each, EVENTS[state], due_at=None) is not None
    return media


async def left(world: World, media: list[Media]) -> int:
    """Return how many of these rows are left."""
    outcomes = await asyncio.gather(*(world.store.get(each.id, None) for each in media), return_exceptions=True)
    assert all(isinstance(outcome, Media | MediaNotFound) for outcome in outcomes)
    return sum(isinstance(outcome, Media) for outcome in outcomes)


async def test_each_state_is_kept_for_its_own_time(world: World) -> None:
    rejected, expired = await ended(world, State.REJECTED), await ended(world, State.EXPIRED)
    tidy = job(world, rejected=30, expired=7)
    for days, kept in ((6, [1, 1]), (2, [1, 0]), (23, [0, 0])):
        world.clock.move(days=days)
        assert not await tidy.once()
        assert [await left(world, media) for media in (rejected, expired)] == kept


async def test_a_state_without_a_time_is_kept_for_ever(world: World) -> None:
    rejected = await ended(world, State.REJECTED)
    world.clock.move(days=10_000)
    assert not await job(world, expired=7).once()
    assert await left(world, rejected) == 1


async def test_many_records_are_removed_in_bounded_batches(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tidying, "BATCH", 2)
    monkeypatch.setattr(tidying, "MAX_BATCHES", 3)
    media = await ended(world, State.EXPIRED, 11)
    world.clock.move(days=8)
    tidy = job(world, expired=7)
    assert await tidy.once()
    assert await left(world, media) == 5
    assert not await tidy.once()
    assert await left(world, media) == 0


async def test_the_job_removes_records_and_erases_owners_until_it_is_stopped(world: World) -> None:
    expired = await ended(world, State.EXPIRED)
    world.clock.move(days=8)
    await world.store.removal.record_erasure("eve", world.clock())
    tidy = job(world, expired=7)
    running = asyncio.create_task(tidy.run())

    async def is_tidy() -> bool:
        return await left(world, expired) == 0 and not await world.store.removal.claim_erasures(
            world.clock() + timedelta(days=1), next_at=world.clock(), limit=9
        )

    await until(is_tidy)
    await tidy.stop()
    await asyncio.wait_for(running, 10)


class Turns(Erasure):
    """An erasure whose turns end as the test says, one after another, and then with nothing to do."""

    def __init__(self, *turns: int | Exception) -> None:
        self.turns = list(turns)

    async def once(self) -> int:
        turn = self.turns.pop(0) if self.turns else 0
        if isinstance(turn, Exception):
            raise turn
        return turn


@pytest.mark.parametrize("rest_seconds", [0.001, 3600])
async def test_the_job_rests_unless_more_is_due_and_survives_failures(world: World, rest_seconds: float) -> None:
    turns: list[int | Exception] = [20, 1, 0]
    if rest_seconds < 1:  # it rests after each failure
        turns[2:] = [DatabaseUnavailable(), ZeroDivisionError(), 1, 0]
    erasing = Turns(*turns)
    tidy = Tidying(world.store, erasing, keep={}, rest_seconds=rest_seconds, clock=world.clock)
    with capture_logs() as logs:
        running = asyncio.create_task(tidy.run())
        await until(lambda: not erasing.turns)
        await tidy.stop()
        await asyncio.wait_for(running, 10)
    pauses = {"event": "tidying pauses", "log_level": "warning", "seconds": rest_seconds}
    failure = {"event": "tidying failed", "log_level": "error", "exc_info": True}
    assert logs == ([pauses | {"reason": str(DatabaseUnavailable())}, failure] if rest_seconds < 1 else [])


async def test_a_job_that_is_stopped_begins_no_further_batch(world: World) -> None:
    expired = await ended(world, State.EXPIRED)
    world.clock.move(days=8)
    tidy = job(world, expired=7)
    await tidy.stop()
    assert not await tidy.once()
    assert await left(world, expired) == 1
