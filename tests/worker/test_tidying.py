"""The job that removes records: each state after its own time, in batches, and erasures beside them."""

import asyncio
from datetime import timedelta

import pytest

from broker.domain.access.quota import Quota
from broker.domain.media import Event, Media, State
from broker.errors import MediaNotFound
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
