"""Due dates: after each event the row names the instant at which the sweep comes back, to the second."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from broker.domain.keys import staging_key
from broker.domain.media import Media, State
from broker.lifecycle.due import MAX_CLOCK_DIFFERENCE, SLOWEST_UPLOAD
from broker.lifecycle.leases import LEASE
from tests.support.gates import Gate
from tests.support.in_parts import DAY, FILE, PART
from tests.support.overwriter import OverwrittenBetween
from tests.support.world import GRACE_SECONDS, POLICY_SECONDS, VIDEO, MakeWorld, World, outcome_of

CLOSED = POLICY_SECONDS + GRACE_SECONDS
"""From the issue to the end of the policy and its grace."""
PARTS_CLOSED = 2 * POLICY_SECONDS + GRACE_SECONDS
LEASED = LEASE.total_seconds()
AGAIN = MAX_CLOCK_DIFFERENCE.total_seconds()
LAST_LOOK = SLOWEST_UPLOAD.total_seconds()

Step = Callable[[World, Media], Awaitable[object]]


async def nothing(world: World, media: Media) -> None:
    """Look at the row as it is."""


async def put(world: World, media: Media, content_type: str = "video/mp4") -> None:
    key = staging_key(media.id)
    world.s3.put_object(Bucket=world.bucket.config.name, Key=key, Body=VIDEO, ContentType=content_type)


async def complete(world: World, media: Media) -> None:
    await put(world, media)
    assert await outcome_of(world.verbs.complete(media.id, "anna")) == "ready"


async def differ(world: World, media: Media) -> None:
    await put(world, media, "text/html")
    assert await outcome_of(world.verbs.complete(media.id, "anna")) == "UploadRejected"


async def delete(world: World, media: Media) -> None:
    await world.verbs.delete(media.id, "anna")


async def sweep(world: World, media: Media) -> None:
    """Sweep a second before the media is due, which changes nothing, and then when it is."""
    due_at = (await world.store.get(media.id, None)).due_at
    assert due_at is not None
    world.clock.move(seconds=(due_at - world.clock()).total_seconds() - 1)
    assert await world.sweep.once() == 0
    world.clock.move(seconds=1)
    await world.sweep_all()


async def hours_later(world: World, media: Media) -> None:
    world.clock.move(hours=3)


async def sweep_early(world: World, media: Media) -> None:
    """Sweep a media whose policy was renewed after its due date was read."""
    assert await world.store.amend(media, due_at=world.clock()) is not None
    await world.sweep_all()


COURSES: dict[str, list[tuple[Step, State, float | None]]] = {
    "ready": [
        (nothing, State.PENDING, CLOSED),
        (complete, State.READY, CLOSED),
        (sweep, State.READY, AGAIN),
        (sweep, State.READY, None),
    ],
    "ready long after the policy": [
        (hours_later, State.PENDING, CLOSED - 10_800),
        (complete, State.READY, LEASED),
        (sweep, State.READY, AGAIN),
        (sweep, State.READY, None),
    ],
    "rejected": [
        (differ, State.REJECTED, CLOSED),
        (sweep, State.REJECTED, AGAIN),
        (sweep, State.REJECTED, None),
    ],
    "rejected long after the policy": [
        (hours_later, State.PENDING, CLOSED - 10_800),
        (differ, State.REJECTED, LEASED),
        (sweep, State.REJECTED, AGAIN),
        (sweep, State.REJECTED, None),
    ],
    "deleted": [
        (complete, State.READY, CLOSED),
        (delete, State.DELETING, LEASED),
        (sweep, State.DELETING, CLOSED - LEASED),
        (sweep, State.DELETED, LEASED + AGAIN),
        (sweep, State.DELETED, None),
    ],
    "deleted long after the policy": [
        (hours_later, State.PENDING, CLOSED - 10_800),
        (delete, State.DELETING, LEASED),
        (sweep, State.DELETED, LEASED + AGAIN),
        (sweep, State.DELETED, None),
    ],
    "expired": [
        (sweep, State.EXPIRED, LAST_LOOK),
        (sweep, State.EXPIRED, None),
    ],
    "swept while the policy is open": [
        (sweep_early, State.PENDING, CLOSED),
        (sweep, State.EXPIRED, LAST_LOOK),
    ],
}


async def follow(world: World, media: Media, course: list[tuple[Step, State, float | None]]) -> None:
    """Take the steps of a course, and compare the state and the seconds to the due date after each."""
    for step, state, due_in in course:
        await step(world, media)
        row = await world.store.get(media.id, None)
        left = None if row.due_at is None else (row.due_at - world.clock()).total_seconds()
        assert (row.state, left) == (state, due_in), step.__name__


@pytest.mark.parametrize("course", COURSES.values(), ids=COURSES)
async def test_the_sweep_comes_back_when_it_must(world: World, course: list[tuple[Step, State, float | None]]) -> None:
    world.clock.stop()
    await follow(world, (await world.issue()).media, course)


async def test_parts_are_awaited_until_the_upload_expires(make_world: MakeWorld) -> None:
    world = make_world(max_size=100_000_000, part_size=PART)
    world.clock.stop()
    media = (await world.issue(size=len(FILE), resumable=True)).media
    course: list[tuple[Step, State, float | None]] = [
        (nothing, State.PENDING, PARTS_CLOSED),
        (sweep, State.PENDING, DAY - 2 * POLICY_SECONDS),
        (sweep, State.EXPIRED, LAST_LOOK),
        (sweep, State.EXPIRED, None),
    ]
    await follow(world, media, course)


async def test_a_promotion_is_due_at_the_end_of_its_lease(make_world: MakeWorld) -> None:
    world = make_world(Gate)
    assert isinstance(world.bucket, Gate)
    world.clock.stop()
    media = (await world.issue()).media
    world.bucket.held = {"copy_object"}
    await put(world, media)
    sweeping = asyncio.create_task(world.verbs.complete(media.id, "anna"))
    await world.bucket.reached.wait()
    await follow(world, media, [(nothing, State.PROMOTING, LEASED)])
    arrived = await world.bucket.head(staging_key(media.id))
    row = await world.store.get(media.id, None)
    assert (row.judged, row.judgements, row.attempt) == (arrived, 1, 1)
    world.bucket.let_go.set()
    await sweeping


async def test_a_take_over_has_a_lease_and_an_attempt_of_its_own(make_world: MakeWorld) -> None:
    world, other = make_world(Gate), make_world(Gate)
    world.clock.stop()
    media = (await world.issue()).media
    await put(world, media)
    completing = []
    for each in (world, other):
        assert isinstance(each.bucket, Gate)
        each.bucket.held = {"copy_object"}
        completing.append(asyncio.create_task(outcome_of(each.verbs.complete(media.id, "anna"))))
        await each.bucket.reached.wait()
        await follow(each, media, [(nothing, State.PROMOTING, LEASED)])
        world.clock.move(seconds=LEASED)
    assert (await world.store.get(media.id, None)).attempt == 2
    for each in (other, world):
        each.bucket.let_go.set()  # type: ignore[attr-defined]
    assert await asyncio.gather(*completing) == ["ready", "ready"]


async def test_an_overwritten_upload_is_due_as_before(make_world: MakeWorld) -> None:
    world = make_world(OverwrittenBetween)
    world.clock.stop()
    media = (await world.uploaded()).media
    judging = world.settlement.judge(media)
    assert (await judging).due_at == media.due_at == world.clock() + timedelta(seconds=CLOSED)
