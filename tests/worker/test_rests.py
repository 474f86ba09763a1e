"""The pauses of the jobs: they grow to a bound during an outage, keep idle loops from spinning, and lose nothing."""

import asyncio
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from broker.aws.queue import Message, Queue
from broker.dev.s3 import EmbeddedS3, Fault
from broker.domain.media import Event, Media, State
from broker.lifecycle import settlement
from broker.lifecycle.erasure import Erasure
from broker.store import Store
from broker.worker import events, sweep, webhooks
from broker.worker.events import Events
from broker.worker.jobs import Job
from broker.worker.sweep import Sweep
from broker.worker.tidying import Tidying
from broker.worker.webhooks import KEEP_GIVEN_UP, Webhooks
from tests.support.receiver import receiving
from tests.support.samples import UNLIMITED, locked, pending
from tests.support.world import MakeWorld, World, outcome_of
from tests.worker.conftest import VISIBILITY_SECONDS, Sqs, told, until
from tests.worker.hearing import Slow, hearing
from tests.worker.sending import sending, telling

DAY = timedelta(days=1)


class Hiding(Queue):
    """A queue that notes how long each receive of a message is hidden afterwards."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self.hidden: list[tuple[int, int]] = []

    async def hide(self, message: Message, seconds: int) -> None:
        self.hidden.append((message.receives, seconds))
        await super().hide(message, seconds)


async def test_a_message_is_hidden_for_longer_after_each_receive_of_an_outage(
    world: World, sqs: Sqs, embedded_s3: EmbeddedS3
) -> None:
    issued = await world.uploaded()
    embedded_s3.order_fault(Fault("HeadObject", count=6, code="SlowDown", status=503))  # two calls of three attempts
    queue = Hiding(sqs.config)
    async with hearing(world, queue):

        async def is_ready() -> bool:
            return await world.state(issued.media.id) == State.READY

        await until(is_ready, 60)
    queue.close()
    last = dict(queue.hidden)
    assert (last[1], last[2]) == (VISIBILITY_SECONDS, 2 * VISIBILITY_SECONDS)


async def test_a_message_is_not_deleted_while_another_caller_promotes(
    make_world: MakeWorld, queue: Queue, sqs: Sqs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlement, "WAITS", 2)  # a caller gives up long before the promotion ends
    world = make_world(Slow)
    issued = await world.uploaded()
    promoting = asyncio.create_task(world.verbs.confirm(issued.media.id, None))

    async def is_promoting() -> bool:
        return await world.state(issued.media.id) == State.PROMOTING

    await until(is_promoting)
    async with hearing(world, queue):
        await until(lambda: sqs.left == 0)
        assert await world.state(issued.media.id) == State.READY
    await promoting


async def test_the_pauses_of_events_double_up_to_a_bound(
    world: World, sqs: Sqs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "FIRST_REST_SECONDS", 0.01)
    monkeypatch.setattr(events, "MAX_REST_SECONDS", 0.05)
    queue = Queue(replace(sqs.config, endpoint_url="http://127.0.0.1:9", url="http://127.0.0.1:9/1/q"))
    with capture_logs() as logs:
        job = Events(queue, world.verbs, bucket_name=world.bucket.config.name)
        running = asyncio.create_task(job.run())
        await until(lambda: sum(line["event"] == "events pause" for line in logs) >= 5, 60)
        await job.stop()
        await running
    queue.close()
    pauses = [line["seconds"] for line in logs if line["event"] == "events pause"]
    assert pauses[:5] == [0.01, 0.02, 0.04, 0.05, 0.05]


async def test_the_pauses_of_the_sweep_double_up_to_a_bound(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "MAX_REST_SECONDS", 0.05)
    store = Store(f"sqlite:///{tmp_path}/absent/broker.db", timeout_seconds=1)
    job = Sweep(store, world.settlement, rest_seconds=0.01)
    with capture_logs() as logs:
        running = asyncio.create_task(job.run())
        await until(lambda: sum(line["event"] == "sweep pauses" for line in logs) >= 4, 60)
        await job.stop()
        await running
    await store.close()
    assert [line["seconds"] for line in logs if line["event"] == "sweep pauses"][:4] == [0.02, 0.04, 0.05, 0.05]


async def test_idle_jobs_do_not_spin(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "REST_SECONDS", 0.2)
    turns = {"sweep": 0, "tidying": 0, "webhooks": 0}

    class CountedSweep(Sweep):
        async def claim(self, limit: int) -> list[Media]:
            turns["sweep"] += 1
            return await super().claim(limit)

    class CountedTidying(Tidying):
        async def once(self) -> bool:
            turns["tidying"] += 1
            return await super().once()

    class CountedWebhooks(Webhooks):
        async def once(self, target: str) -> int:
            turns["webhooks"] += 1
            return await super().once(target)

    async with receiving(200) as receiver:
        world = make_world(announce_to=(receiver.url,))
        async with sending(world, receiver) as sender:
            jobs: list[Job] = [
                CountedSweep(world.store, world.settlement, rest_seconds=0.2, clock=world.clock),
                CountedTidying(
                    world.store, Erasure(world.store, world.settlement), keep={State.EXPIRED: DAY}, rest_seconds=0.2
                ),
                CountedWebhooks(world.store.outbox, sender._sender, (receiver.url,), clock=world.clock),
            ]
            running = [asyncio.create_task(job.run()) for job in jobs]
            began = time.monotonic()
            await until(lambda: min(turns.values()) >= 4)
            for job in jobs:
                await job.stop()
            await asyncio.gather(*running)
            lasted = time.monotonic() - began
    assert max(turns.values()) <= 2 + lasted / 0.2, turns


class Overlapping(Queue):
    """A queue that notes how many receives overlap."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self.receives = self.under_way = self.most_under_way = 0

    async def receive(self, limit: int) -> list[Message]:
        self.receives += 1
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            return await super().receive(limit)
        finally:
            self.under_way -= 1


async def test_only_a_long_queue_is_received_from_several_times_at_once(world: World, sqs: Sqs) -> None:
    queue = Overlapping(sqs.config)
    async with hearing(world, queue):
        await asyncio.to_thread(sqs.send, *(told(world, f"other/{number}") for number in range(5)))
        await until(lambda: sqs.left == 0)
        receives = queue.receives
        await until(lambda: queue.receives > receives + 1)
        assert queue.most_under_way == 1
        await asyncio.to_thread(sqs.send, *(told(world, f"other/{number}") for number in range(100)))
        await until(lambda: sqs.left == 0, 60)
    queue.close()
    assert 1 < queue.most_under_way <= events.RECEIVERS


async def test_an_outage_of_the_database_does_not_end_the_tidying(world: World, world_url: str) -> None:
    media = await world.store.add(pending(), UNLIMITED)
    await world.store.change(media, Event.EXPIRE, due_at=None)
    world.clock.move(days=2)
    store = Store(world_url, timeout_seconds=0.5)
    erasing = Erasure(store, world.settlement)
    job = Tidying(store, erasing, keep={State.EXPIRED: DAY}, rest_seconds=0.05, clock=world.clock)
    with capture_logs() as logs, locked(world_url):
        running = asyncio.create_task(job.run())
        await until(lambda: any(line["event"] == "tidying pauses" for line in logs), 60)

    async def is_gone() -> bool:
        return await outcome_of(world.verbs.complete(media.id, None)) == "MediaNotFound"

    await until(is_gone)
    await job.stop()
    await running
    await store.close()


async def test_old_webhooks_are_removed_even_after_an_outage_of_the_database(
    make_world: MakeWorld, world_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "TIDY_EVERY_SECONDS", 0.1)
    async with receiving(500) as receiver:
        world = make_world(announce_to=(receiver.url,))
        issued = await world.uploaded()
        await world.verbs.complete(issued.media.id, "anna")
        async with sending(world, receiver) as webhooks_job:
            world.clock.move(hours=1)
            await webhooks_job.once(receiver.url)
            world.clock.move(days=4)  # beyond the three days in which it is retried
            await webhooks_job.once(receiver.url)
        (given_up,) = await world.store.outbox.kept(10)
        assert given_up.next_at is None
        with capture_logs() as logs:
            async with telling(world, receiver):
                with locked(world_url):
                    await until(lambda: any(line["event"] == "webhooks pause" for line in logs), 60)
                assert len(await world.store.outbox.kept(10)) == 1  # it is not old enough
                world.clock.move(seconds=(KEEP_GIVEN_UP + timedelta(days=1)).total_seconds())

                async def is_gone() -> bool:
                    return await world.store.outbox.kept(10) == []

                await until(is_gone)
