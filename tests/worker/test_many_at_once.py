"""The sweep and the events work on hundreds of media at a time, within bounds, and none of them delays the others."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from broker.aws.bucket import Bucket
from broker.aws.client import Answer
from broker.aws.queue import Queue
from broker.domain.access.quota import Quota
from broker.domain.keys import media_id_of, staging_key
from broker.domain.media import Arrived, Event, Media, State
from broker.errors import StorageUnavailable
from broker.lifecycle.leases import LEASE
from broker.worker import events, sweep
from broker.worker.sweep import Sweep
from tests.support.samples import pending
from tests.support.world import MakeWorld, World
from tests.worker.conftest import Sqs, told, until
from tests.worker.hearing import hearing


class Held(Bucket):
    """A bucket in which no upload has arrived, and that holds the calls for chosen media, or for all."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.let_go = asyncio.Event()
        self.held: set[UUID] | None = None
        self.calls = 0
        self.under_way = 0
        self.most_under_way = 0

    async def head(self, key: str) -> Arrived | None:
        self.calls += 1
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if self.held is None or media_id_of(key) in self.held:
                await self.let_go.wait()
        finally:
            self.under_way -= 1
        return None


class Away(Held):
    """A bucket of an S3 that is unavailable, once its calls are let go."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.failed = 0
        self.is_back = False

    async def head(self, key: str) -> Arrived | None:
        arrived = await super().head(key)
        if self.is_back:
            return arrived
        self.failed += 1
        raise StorageUnavailable(operation="head_object", cause="SlowDown")


@pytest.fixture
def held(make_world: MakeWorld) -> tuple[World, Held]:
    world = make_world(Held)
    assert isinstance(world.bucket, Held)
    return world, world.bucket


async def due(world: World, count: int) -> list[Media]:
    """Record media whose policies ended an hour ago."""
    then = world.clock() - timedelta(hours=1)
    media = [pending(policy_expires_at=then, due_at=then + timedelta(seconds=number)) for number in range(count)]
    return await asyncio.gather(*(world.store.add(each, Quota()) for each in media))


async def states(world: World, media: Iterable[Media]) -> list[str]:
    return list(await asyncio.gather(*(world.state(each.id) for each in media)))


@asynccontextmanager
async def sweeping(world: World) -> AsyncIterator[None]:
    """Sweep in the background."""
    job = Sweep(world.store, world.settlement, rest_seconds=0.05, clock=world.clock)
    running = asyncio.create_task(job.run())
    try:
        yield
    finally:
        await job.stop()
        await asyncio.wait_for(running, 30)


async def test_the_sweep_settles_hundreds_at_a_time_within_its_bound(held: tuple[World, Held]) -> None:
    world, bucket = held
    media = await due(world, sweep.CONCURRENCY + 150)
    async with sweeping(world):
        await until(lambda: bucket.under_way == sweep.CONCURRENCY)
        bucket.let_go.set()

        async def all_expired() -> bool:
            return set(await states(world, media)) == {State.EXPIRED}

        await until(all_expired)
    assert sweep.CONCURRENCY >= 300
    assert bucket.most_under_way == sweep.CONCURRENCY


async def test_a_media_that_is_stuck_delays_neither_the_others_nor_a_stop(
    held: tuple[World, Held], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "STOP_SECONDS", 0.1)
    world, bucket = held
    stuck, *others = await due(world, sweep.CONCURRENCY + 50)
    bucket.held = {stuck.id}
    async with sweeping(world):

        async def others_expired() -> bool:
            return set(await states(world, others)) == {State.EXPIRED}

        await until(others_expired)
    assert await world.state(stuck.id) == State.PENDING
    bucket.held = set()
    await world.sweep_after(seconds=LEASE.total_seconds() + 1)
    assert await world.state(stuck.id) == State.EXPIRED


async def test_the_sweep_stops_although_every_place_is_taken(
    held: tuple[World, Held], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "CONCURRENCY", 8)
    monkeypatch.setattr(sweep, "STOP_SECONDS", 0.1)
    world, bucket = held
    media = await due(world, 20)
    async with sweeping(world):
        await until(lambda: bucket.under_way == 8)
    assert bucket.under_way == 0
    assert set(await states(world, media)) == {State.PENDING}


async def test_a_jump_of_the_clock_interrupts_no_media_that_is_being_settled(held: tuple[World, Held]) -> None:
    world, bucket = held
    media = await due(world, 20)
    async with sweeping(world):
        await until(lambda: bucket.under_way == 20)
        world.clock.move(hours=1)
        later = await due(world, 1)
        await asyncio.sleep(0.5)  # ten times the rest of a sweep, in which it would claim all of them again
        bucket.let_go.set()

        async def all_expired() -> bool:
            return set(await states(world, [*media, *later])) == {State.EXPIRED}

        await until(all_expired)
    assert bucket.calls == 21


class Counted(Bucket):
    """A bucket that counts its calls by their operation."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.operations: list[str] = []

    async def _call(self, operation: str, method: str, key: str = "", **options: Any) -> Answer:
        self.operations.append(operation)
        return await super()._call(operation, method, key, **options)


async def test_the_purges_of_many_media_share_their_requests(make_world: MakeWorld) -> None:
    world = make_world(Counted)
    assert isinstance(world.bucket, Counted)
    media = await due(world, sweep.BATCH)
    for each in media:
        await world.store.change(each, Event.DIFFER, due_at=each.due_at)
    for each in media[:3]:
        world.s3.put_object(Bucket=world.bucket.config.name, Key=staging_key(each.id), Body=b"replayed")
    assert await world.sweep.once() == sweep.BATCH
    assert world.stored_keys() == []
    assert {*world.bucket.operations} == {"delete_objects"}
    assert len(world.bucket.operations) <= sweep.BATCH / 4


async def test_absent_uploads_share_the_check_that_the_bucket_is_there(make_world: MakeWorld) -> None:
    world = make_world(Counted)
    assert isinstance(world.bucket, Counted)
    media = await due(world, sweep.BATCH)
    assert await world.sweep.once() == sweep.BATCH
    assert set(await states(world, media)) == {State.EXPIRED}
    assert world.bucket.operations.count("head_object") == sweep.BATCH
    assert 1 <= world.bucket.operations.count("head_bucket") <= sweep.BATCH / 2


async def test_events_complete_hundreds_of_uploads_at_a_time_within_their_bound(
    held: tuple[World, Held], sqs: Sqs, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert events.CONCURRENCY >= 200
    monkeypatch.setattr(events, "CONCURRENCY", 40)  # so that this test needs fewer messages
    world, bucket = held
    queue = Queue(replace(sqs.config, visibility_seconds=60))
    media = await due(world, events.CONCURRENCY + 10)
    await asyncio.to_thread(sqs.send, *(told(world, staging_key(each.id)) for each in media))
    async with hearing(world, queue):
        await until(lambda: bucket.under_way == events.CONCURRENCY, 60)
        bucket.let_go.set()
        await until(lambda: sqs.left == 0, 60)
    queue.close()
    assert bucket.most_under_way == events.CONCURRENCY
    assert sqs.dead == 0


async def test_an_event_that_is_stuck_delays_neither_the_others_nor_a_stop(
    held: tuple[World, Held], sqs: Sqs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "STOP_SECONDS", 0.1)
    world, bucket = held
    queue = Queue(replace(sqs.config, visibility_seconds=60))
    stuck, *others = await due(world, 60)
    bucket.held = {stuck.id}
    await asyncio.to_thread(sqs.send, *(told(world, staging_key(each.id)) for each in (stuck, *others)))
    async with hearing(world, queue):
        await until(lambda: sqs.left == 1, 60)
        assert bucket.under_way == 1
    queue.close()
    assert (bucket.under_way, sqs.left, sqs.dead) == (0, 1, 0)


async def test_the_sweep_pauses_while_s3_is_unavailable_and_goes_on_when_it_is_back(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "MAX_REST_SECONDS", 0.2)
    world = make_world(Away)
    assert isinstance(world.bucket, Away)
    world.bucket.let_go.set()
    media = await due(world, sweep.OUTAGES + 5)
    with capture_logs() as logs:
        async with sweeping(world):
            await until(lambda: any(line["event"] == "sweep pauses" for line in logs))
            world.bucket.is_back = True
            world.clock.move(seconds=LEASE.total_seconds() + 1)

            async def all_expired() -> bool:
                return set(await states(world, media)) == {State.EXPIRED}

            await until(all_expired)
    pauses = [line for line in logs if line["event"] == "sweep pauses"]
    assert [line["seconds"] for line in pauses] == [0.1]


async def test_fewer_outages_than_that_pause_no_sweep(make_world: MakeWorld) -> None:
    world = make_world(Away)
    assert isinstance(world.bucket, Away)
    await due(world, sweep.OUTAGES - 1)
    world.bucket.let_go.set()
    with capture_logs() as logs:
        async with sweeping(world):
            await until(lambda: world.bucket.failed == sweep.OUTAGES - 1)  # type: ignore[attr-defined]
            world.bucket.is_back = True
            (later,) = await due(world, 1)

            async def is_expired() -> bool:
                return await world.state(later.id) == State.EXPIRED

            await until(is_expired)
            world.bucket.is_back = False
            await due(world, sweep.OUTAGES - 1)
            await until(lambda: world.bucket.failed == 2 * (sweep.OUTAGES - 1))  # type: ignore[attr-defined]
            world.bucket.is_back = True
            (later,) = await due(world, 1)
            await until(is_expired)
    assert not any(line["event"] == "sweep pauses" for line in logs)


async def test_messages_that_fail_together_make_one_pause(make_world: MakeWorld, sqs: Sqs) -> None:
    world = make_world(Away)
    bucket = world.bucket
    assert isinstance(bucket, Away)
    queue = Queue(replace(sqs.config, visibility_seconds=60))
    media = await due(world, 30)
    await asyncio.to_thread(sqs.send, *(told(world, staging_key(each.id)) for each in media))
    with capture_logs() as logs:
        async with hearing(world, queue):
            await until(lambda: bucket.under_way == 30)
            bucket.let_go.set()
            await until(lambda: bucket.failed == 30)
    queue.close()
    assert [line["seconds"] for line in logs if line["event"] == "events pause"] == [events.FIRST_REST_SECONDS]
