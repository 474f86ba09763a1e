"""A bucket that refuses every copy: the sweep tries again once in a lease, and clients get the refusal at once."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from broker.aws.bucket import Bucket
from broker.domain.media import Arrived, State
from broker.errors import StorageRefused
from broker.lifecycle.leases import LEASE
from broker.worker import sweep
from tests.support.world import MakeWorld, World, outcome_of

COUNT = 24
LEASES = 3


class Refusing(Bucket):
    """A bucket that may be written and read by HEAD, but refuses copies until the test allows them."""

    refuses = True
    refused = 0

    async def promote(self, source: str, target: str, judged: Arrived) -> bool:
        if self.refuses:
            self.refused += 1
            raise StorageRefused(operation="copy_object", code="AccessDenied")
        return await super().promote(source, target, judged)


@pytest.fixture
def world_url(database_url: str) -> str:
    """Run each test of this module on both databases."""
    return database_url


@pytest.fixture
def world(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> World:
    """Return a broker whose clock stands still, and whose sweep claims fewer media than the test issues."""
    monkeypatch.setattr(sweep, "BATCH", COUNT // 4)
    world = make_world(Refusing)
    world.clock.stop()
    return world


def bucket(world: World) -> Refusing:
    assert isinstance(world.bucket, Refusing)
    return world.bucket


async def turns(world: World) -> list[float]:
    """Return the pauses after as many turns as the sweep needs to claim everything three times."""
    pauses = []
    for _ in range(3 * 4):
        pauses.append(await world.sweep._turn())
        await world.sweep._places.wait_until_empty(60)
    return pauses


async def test_the_sweep_tries_each_refused_copy_once_in_a_lease_and_then_rests(world: World) -> None:
    issued: list[Any] = [await world.uploaded() for _ in range(COUNT)]
    for each in issued:
        assert await outcome_of(world.verbs.complete(each.media.id, "anna")) == "StorageRefused"
    with capture_logs():
        for lease in range(LEASES):
            pauses = await turns(world)
            assert pauses[-1] > 0
            assert bucket(world).refused == COUNT * (2 + lease)
            world.clock.move(seconds=LEASE.total_seconds() + 1)
    bucket(world).refuses = False
    await world.sweep_all()
    assert {await world.state(each.media.id) for each in issued} == {State.READY}


async def test_a_client_gets_the_refusal_while_the_sweep_waits_and_is_ready_once_it_ends(world: World) -> None:
    issued = await world.uploaded()
    for _ in range(4):
        assert await outcome_of(world.verbs.complete(issued.media.id, "anna")) == "StorageRefused"
        with capture_logs():
            await world.sweep._turn()
    bucket(world).refuses = False
    assert await outcome_of(world.verbs.complete(issued.media.id, "anna")) == "ready"


async def test_refused_copies_hold_up_no_other_media(world: World) -> None:
    for _ in range(COUNT):
        assert await outcome_of(world.verbs.complete((await world.uploaded()).media.id, "anna")) == "StorageRefused"
    with capture_logs():
        await turns(world)
        other = await world.uploaded()
        assert await outcome_of(world.verbs.complete(other.media.id, "anna")) == "StorageRefused"
        bucket(world).refuses = False
        await world.sweep._turn()
        await world.sweep._places.wait_until_empty(60)
    assert await world.state(other.media.id) == State.READY
