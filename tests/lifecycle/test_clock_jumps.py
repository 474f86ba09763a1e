"""Leases outlive jumps of the wall clock, and no promotion waits until the clock has caught up."""

from datetime import timedelta

import pytest

from broker.domain.keys import staging_key
from broker.domain.media import Event, Media, State
from broker.lifecycle import settlement
from broker.lifecycle.leases import LEASE, Leases
from tests.support.samples import pending
from tests.support.world import VIDEO, Clock, MakeWorld, World, outcome_of


class Stopwatch:
    """A monotonic clock that a test advances."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def world_url(database_url: str) -> str:
    """Run each test of this module on both databases."""
    return database_url


@pytest.fixture
def stopwatch() -> Stopwatch:
    return Stopwatch()


@pytest.fixture
def world(make_world: MakeWorld, stopwatch: Stopwatch, monkeypatch: pytest.MonkeyPatch) -> World:
    """Return a broker whose callers do not wait long for a promotion."""
    monkeypatch.setattr(settlement, "WAITS", 3)
    return make_world(stopwatch=stopwatch)


async def interrupted_promotion(world: World) -> Media:
    """Return a media whose lease holder died right after it had taken the lease."""
    issued = await world.uploaded()
    arrived = await world.bucket.head(staging_key(issued.media.id))
    assert arrived is not None
    promoting = await world.store.change(
        issued.media,
        Event.MATCH,
        size=arrived.size,
        etag=arrived.etag,
        checksum=arrived.checksum,
        judgements=1,
        due_at=world.settlement.leases.end(),
    )
    assert promoting is not None
    return promoting


async def test_a_promotion_is_taken_over_although_the_clock_jumped_back_by_hours(
    world: World, stopwatch: Stopwatch
) -> None:
    media = await interrupted_promotion(world)
    world.clock.move(hours=-2)
    assert await outcome_of(world.verbs.complete(media.id, "anna")) == "PromotionRunning"
    stopwatch.seconds += LEASE.total_seconds() - 1
    assert await outcome_of(world.verbs.complete(media.id, "anna")) == "PromotionRunning"
    stopwatch.seconds += 2
    assert await outcome_of(world.verbs.complete(media.id, "anna")) == "ready"
    assert world.final_bytes(media) == VIDEO


async def test_the_sweep_takes_over_a_promotion_although_the_clock_jumped_back_by_hours(world: World) -> None:
    media = await interrupted_promotion(world)
    world.clock.move(hours=-2)
    await world.sweep_all()
    assert await world.state(media.id) == State.READY
    assert world.final_bytes(media) == VIDEO


async def test_the_sweep_leaves_a_promotion_to_its_lease_holder(world: World) -> None:
    media = await interrupted_promotion(world)
    world.clock.move(seconds=-30)
    assert await world.sweep.once() == 0
    assert (await world.store.get(media.id, None)).version == media.version


async def test_a_clock_that_jumps_ahead_by_hours_loses_no_promotion(world: World) -> None:
    issued = await world.uploaded()
    world.clock.move(hours=2)
    assert await outcome_of(world.verbs.complete(issued.media.id, "anna")) == "ready"
    world.clock.move(hours=-2)
    assert await outcome_of(world.verbs.complete(issued.media.id, "anna")) == "ready"
    await world.sweep_after(hours=1)
    assert world.final_bytes(issued.media) == VIDEO


def test_a_renewed_lease_is_watched_anew(stopwatch: Stopwatch) -> None:
    clock = Clock()
    leases = Leases(clock, stopwatch)
    media = pending(due_at=clock() + timedelta(hours=2))
    assert not leases.has_expired(media)
    stopwatch.seconds += LEASE.total_seconds()
    renewed = media._replace(version=1)
    assert not leases.has_expired(renewed)
    stopwatch.seconds += LEASE.total_seconds()
    assert leases.has_expired(renewed)
