"""S3 events complete uploads, however often, in any order, and among other messages."""

import asyncio
import os
import random
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from broker.aws.queue import Message, Queue
from broker.dev.s3 import EmbeddedS3, Fault
from broker.domain.keys import part_key, staging_key
from broker.domain.media import State
from tests.support.in_parts import COUNT as COUNT_OF_PARTS
from tests.support.in_parts import FILE, PART, issue, left_over, page_of, post_part, uploaded
from tests.support.receiver import receiving
from tests.support.world import VIDEO, MakeWorld, World, outcome_of
from tests.worker.conftest import MAX_RECEIVES, VISIBILITY_SECONDS, Sqs, told, until
from tests.worker.hearing import Slow, hearing
from tests.worker.sending import telling


async def test_an_unannounced_upload_is_ready_within_seconds(world: World, queue: Queue, sqs: Sqs) -> None:
    async with hearing(world, queue):
        issued = await world.uploaded()

        async def is_ready() -> bool:
            return await world.state(issued.media.id) == State.READY

        await until(is_ready)
        await until(lambda: sqs.left == 0)
    assert sqs.dead == 0


async def test_an_unrelated_message_is_deleted_and_changes_nothing(world: World, queue: Queue, sqs: Sqs) -> None:
    sqs.take_all()
    untouched, absent = (await world.issue()).media, (await world.issue()).media
    expired = (await world.issue()).media
    await world.verbs.delete(absent.id, "anna")
    world.clock.move(hours=2)
    await world.sweep_all()
    sqs.send(
        told(world, staging_key(untouched.id), bucket="anothers"),
        told(world, "staging/a3/readme.txt", f"media/{expired.id}", f"other/{staging_key(expired.id)}"),
        told(world, staging_key(absent.id)),
        told(world, staging_key(expired.id)),
        '{"Event": "s3:TestEvent"}',
    )
    async with hearing(world, queue):
        await until(lambda: sqs.left == 0)
    assert sqs.dead == 0
    assert await world.state(expired.id) == State.EXPIRED


async def test_events_of_parts_compose_the_upload_once_all_have_arrived(
    make_world: MakeWorld, queue: Queue, sqs: Sqs
) -> None:
    world = make_world(max_size=20_000_000, part_size=PART)
    issued = await issue(world)
    keys = [part_key(issued.media.id, number) for number in range(1, COUNT_OF_PARTS + 1)]
    async with hearing(world, queue):
        for number in (3, 1):
            post_part(page_of(issued), number)
            sqs.send(told(world, keys[number - 1]), told(world, *keys))  # S3 sends an event at least once
            await until(lambda: sqs.left == 0)
            assert await world.state(issued.media.id) == State.PENDING
        post_part(page_of(issued), 2)

        async def is_ready() -> bool:
            return await world.state(issued.media.id) == State.READY

        await until(is_ready)
        sqs.send(*(told(world, key) for key in keys * 2))
        await until(lambda: sqs.left == 0)
    assert sqs.dead == 0
    await world.purged()
    assert left_over(world, issued.media) == []
    assert await world.ready_bytes(issued.media.id) == FILE


async def test_events_of_parts_that_no_upload_needs_change_nothing(
    make_world: MakeWorld, queue: Queue, sqs: Sqs
) -> None:
    world = make_world(max_size=20_000_000, part_size=PART)
    incomplete, deleted, one_form = (
        (await issue(world)).media,
        (await uploaded(world)).media,
        (await world.issue()).media,
    )
    await world.verbs.delete(deleted.id, "anna")
    rejected = (await uploaded(world, checksum_crc64nvme="AAAAAAAAAAA=")).media
    assert await outcome_of(world.verbs.complete(rejected.id, "anna")) == "UploadRejected"
    before = [await world.store.get(media.id, None) for media in (incomplete, deleted, one_form, rejected)]
    sqs.send(*(told(world, part_key(media.id, number)) for media in before for number in (1, 3, 9) for _ in range(2)))
    async with hearing(world, queue):
        await until(lambda: sqs.left == 0)
    assert sqs.dead == 0
    assert [await world.store.get(media.id, None) for media in before] == before


async def test_garbage_reaches_the_dead_letter_queue_and_is_logged_once(world: World, queue: Queue, sqs: Sqs) -> None:
    sqs.take_all()
    sqs.send("not even JSON", '{"Records": [{}]}')
    with capture_logs() as logs:
        async with hearing(world, queue):
            await until(lambda: sqs.dead == 2, (MAX_RECEIVES + 3) * (VISIBILITY_SECONDS + 5))
    assert [line["event"] for line in logs if line["log_level"] == "error"] == [
        "message cannot be processed; it is left to the dead-letter queue"
    ] * 2
    assert sqs.left == 0


async def test_a_message_stays_hidden_while_its_promotion_runs(make_world: MakeWorld, queue: Queue, sqs: Sqs) -> None:
    world = make_world(Slow)
    sqs.take_all()
    issued = await world.uploaded()
    received: list[Message] = []

    class Counting(Queue):
        async def receive(self, limit: int) -> list[Message]:
            messages = await super().receive(limit)
            received.extend(messages)
            return messages

    counting = Counting(sqs.config)
    async with hearing(world, counting):
        await until(lambda: sqs.left == 0)
    counting.close()
    assert [message.receives for message in received] == [1]
    assert await world.state(issued.media.id) == State.READY


async def test_a_stop_finishes_current_messages_and_returns_the_rest(
    make_world: MakeWorld, queue: Queue, sqs: Sqs
) -> None:
    world = make_world(Slow)
    issued = await world.uploaded()
    async with hearing(world, queue):

        async def is_promoting() -> bool:
            return await world.state(issued.media.id) == State.PROMOTING

        await until(is_promoting)
    assert await world.state(issued.media.id) == State.READY
    assert sqs.take_all() == []


async def test_while_s3_is_unavailable_a_message_is_kept_and_its_receives_are_spared(
    world: World, queue: Queue, sqs: Sqs, embedded_s3: EmbeddedS3
) -> None:
    issued = await world.uploaded()
    embedded_s3.order_fault(Fault("HeadObject", count=3, code="SlowDown", status=503))
    async with hearing(world, queue):

        async def is_ready() -> bool:
            return await world.state(issued.media.id) == State.READY

        await until(is_ready)
        await until(lambda: sqs.left == 0)
    assert sqs.dead == 0


async def test_a_refusal_of_s3_makes_no_message_poison(
    world: World, queue: Queue, sqs: Sqs, embedded_s3: EmbeddedS3
) -> None:
    issued = await world.uploaded()
    embedded_s3.order_fault(Fault("HeadObject", count=1, code="AccessDenied", status=403))
    with capture_logs() as logs:
        async with hearing(world, queue):
            await until(lambda: sqs.left == 0)
    assert await world.state(issued.media.id) == State.READY
    assert [line["event"] for line in logs if line["log_level"] in {"warning", "error"}] == [
        "s3 failed",
        "events pause",
    ]


COUNT = int(os.environ.get("BROKER_TEST_EVENTS", "200"))
PORTION = 40
"""Moto's SQS takes time in the square of what is in a queue."""


@pytest.mark.timeout(60 + COUNT)
async def test_many_uploads_with_repeated_unordered_events_are_ready_and_notified_once(
    make_world: MakeWorld, sqs: Sqs
) -> None:
    queue = Queue(replace(sqs.config, visibility_seconds=60))  # so that no slow machine uses up the receives
    async with receiving(200) as receiver:
        world = make_world(announce_to=(receiver.url,))
        media = [(await world.issue()).media for _ in range(COUNT)]
        bodies = []
        for number, one in enumerate(media, start=1):
            world.s3.put_object(
                Bucket=world.bucket.config.name, Key=staging_key(one.id), Body=VIDEO, ContentType="video/mp4"
            )
            if number % PORTION == 0:
                bodies += sqs.take_all()
        bodies += sqs.take_all()
        assert len({body for body in bodies if "ObjectCreated" in body}) == COUNT
        bodies *= 3
        random.shuffle(bodies)
        async with hearing(world, queue), telling(world, receiver):
            for start in range(0, len(bodies), PORTION):
                await asyncio.to_thread(sqs.send, *bodies[start : start + PORTION])
                await until(lambda: sqs.left < PORTION)
            await until(lambda: sqs.left == 0)
            await until(lambda: len(receiver.requests) >= COUNT)
        states = {await world.state(one.id) for one in media}
    queue.close()
    assert (states, sqs.dead) == ({State.READY}, 0)
    assert sorted(receiver.ids) == sorted(f"msg_{one.id.hex}_ready" for one in media)
