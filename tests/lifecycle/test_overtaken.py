"""A caller that was slower than its lease finds that another one took over, and does no harm."""

import asyncio

import pytest

from broker.aws.bucket import Bucket
from broker.domain.keys import current_key, final_key, staging_key
from broker.domain.media import Arrived, Event, State
from broker.errors import UploadRejected
from broker.lifecycle.leases import LEASE
from tests.support.overwriter import OverwrittenBetween
from tests.support.world import OTHER, OVER, VIDEO, MakeWorld, World, outcome_of

AFTER_LEASE = {"seconds": LEASE.total_seconds() + 1}


class Held(Bucket):
    """A bucket in which the first promotion waits until the test lets it go."""

    begun: asyncio.Event
    let_go: asyncio.Event

    async def promote(self, source: str, target: str, judged: Arrived) -> bool:
        if not self.begun.is_set():
            self.begun.set()
            await self.let_go.wait()
        return await super().promote(source, target, judged)


@pytest.fixture
def slow(make_world: MakeWorld) -> World:
    """Return a broker whose first promotion waits."""
    world = make_world(Held)
    assert isinstance(world.bucket, Held)
    world.bucket.begun, world.bucket.let_go = asyncio.Event(), asyncio.Event()
    return world


async def test_an_object_that_another_caller_promoted_is_kept(slow: World, make_world: MakeWorld) -> None:
    issued = await slow.uploaded()
    overtaken = asyncio.create_task(outcome_of(slow.verbs.complete(issued.media.id, "anna")))
    await slow.bucket.begun.wait()  # type: ignore[attr-defined]
    slow.post(issued, OTHER)
    slow.clock.move(**AFTER_LEASE)
    world = make_world()
    assert (await world.verbs.complete(issued.media.id, "anna")).media.judgements == 2
    slow.bucket.let_go.set()  # type: ignore[attr-defined]
    assert await overtaken == "ready"
    assert world.final_bytes(issued.media) == OTHER


async def test_a_lease_that_another_caller_took_first_is_not_taken(world: World) -> None:
    issued = await world.uploaded()
    ready = (await world.verbs.complete(issued.media.id, "anna")).media
    assert await world.settlement.take_lease(issued.media) == ready


async def test_a_copy_that_was_made_after_the_rejection_is_removed(slow: World, make_world: MakeWorld) -> None:
    issued = await slow.uploaded()
    overtaken = asyncio.create_task(outcome_of(slow.verbs.complete(issued.media.id, "anna")))
    await slow.bucket.begun.wait()  # type: ignore[attr-defined]
    slow.clock.move(**AFTER_LEASE)
    world = make_world(OverwrittenBetween)
    world.bucket.times = 11  # type: ignore[attr-defined]
    with pytest.raises(UploadRejected):
        await world.verbs.complete(issued.media.id, "anna")
    slow.post(issued, VIDEO)
    slow.bucket.let_go.set()  # type: ignore[attr-defined]
    assert await overtaken == "UploadRejected"
    await slow.purged()
    await world.purged()
    assert world.final_bytes(issued.media) is None
    assert world.staged_bytes(issued.media) is None


async def test_a_copy_that_a_dead_process_made_after_the_rejection_is_removed_by_the_sweep(
    make_world: MakeWorld,
) -> None:
    world = make_world(OverwrittenBetween)
    world.bucket.times = 11  # type: ignore[attr-defined]
    issued = await world.uploaded()
    with pytest.raises(UploadRejected):
        await world.verbs.complete(issued.media.id, "anna")
    await world.purged()
    world.post(issued)
    key = staging_key(issued.media.id)
    judged = await world.bucket.head(key)
    assert judged is not None
    await Bucket.promote(world.bucket, key, final_key(issued.media.id, issued.media.content_type, 2), judged)
    assert world.final_bytes(issued.media) == VIDEO
    await world.sweep_after(**OVER)
    assert world.final_bytes(issued.media) is None
    assert world.staged_bytes(issued.media) is None
    assert await world.state(issued.media.id) == State.REJECTED


async def test_a_rejection_that_comes_too_late_changes_nothing(make_world: MakeWorld) -> None:
    world = make_world()
    media = (await world.uploaded()).media
    changed = await world.store.amend(media, due_at=world.clock())
    assert changed is not None
    assert await world.settlement.reject(media, Event.DIFFER, "it differs") == changed
    await world.purged()
    assert world.staged_bytes(media) == VIDEO


async def test_a_rejection_after_a_take_over_removes_its_own_copy_alone(make_world: MakeWorld) -> None:
    world = make_world()
    media = (await world.uploaded()).media
    promoting = await world.store.change(media, Event.MATCH, attempt=1, judgements=3, due_at=world.clock())
    assert promoting is not None
    taken_over = await world.store.amend(promoting, attempt=2)
    assert taken_over is not None
    for row in (promoting, taken_over):
        world.s3.put_object(Bucket=world.bucket.config.name, Key=current_key(row), Body=VIDEO)
    assert await world.settlement.judge_again(promoting) == taken_over
    await world.purged()
    assert world.stored_keys("media/") == [current_key(taken_over)]
    assert world.staged_bytes(media) == VIDEO
