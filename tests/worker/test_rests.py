"""The pauses of the jobs: they grow to a bound during an outage, keep idle loops from spinning, and lose nothing."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from broker.aws.queue import Message, Queue
from broker.dev.s3 import EmbeddedS3, Fault
from broker.domain.media import Media, State
from broker.lifecycle import settlement
from broker.store import Store
from broker.worker import events, sweep, webhooks
from broker.worker.events import Events
from broker.worker.jobs import Job
from broker.worker.sweep import Sweep
from broker.worker.webhooks import KEEP_GIVEN_UP, Webhooks
from tests.support.receiver import receiving
from tests.support.samples import locked
from tests.support.world import MakeWorld, World
from tests.worker.conftest import VISIBILITY_SECONDS, Sqs, until
from tests.worker.hearing import Slow, hearing
from tests.worker.sending import sending, telling


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


async def test_an_idle_sweep_and_idle_webhooks_do_not_spin(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "REST_SECONDS", 0.2)
    turns = {"sweep": 0, "webhooks": 0}

    class CountedSweep(Sweep):
        async def claim(self, limit: int) -> list[Media]:
            turns["sweep"] += 1
            return await super().claim(limit)

    class CountedWebhooks(Webhooks):
        async def once(self, target: str) -> int:
            turns["webhooks"] += 1
            return await super().once(target)

    async with receiving(200) as receiver:
        world = make_world(announce_to=(receiver.url,))
        async with sending(world, receiver) as sender:
            jobs: list[Job] = [
                CountedSweep(world.store, world.settlement, rest_seconds=0.2, clock=world.clock),
                CountedWebhooks(world.store.outbox, sender._sender, (receiver.url,), clock=world.clock),
            ]
            running = [asyncio.create_task(job.run()) for job in jobs]
            await asyncio.sleep(1.5)
            for job in jobs:
                await job.stop()
            await asyncio.gather(*running)
    assert {name: 2 <= count <= 9 for name, count in turns.items()} == {"sweep": True, "webhooks": True}, turns


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
