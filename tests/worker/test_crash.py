"""A worker that is killed before any of its steps loses no event and no webhook."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from broker.dev.s3 import EmbeddedS3
from broker.domain.media import Media, State
from tests.support.receiver import Receiver, receiving
from tests.support.world import World
from tests.worker.conftest import Sqs, until
from tests.worker.dying_worker import Worker, start_worker
from tests.worker.sending import SECRET

LONG = timedelta(minutes=10)
"""Longer than any lease, and shorter than a policy."""
EXPECTED = (
    "received",
    "get",
    "head_object",
    "change MATCH",
    "copy_object",
    "change PROMOTE",
    "delete message",
)
TOLD = ("change PROMOTE", "claimed webhook", "send webhook", "note delivery")


@pytest.fixture
def sqs(embedded_s3: EmbeddedS3, bucket: str) -> Sqs:
    """Return a queue that gives out a message again to more workers than a slow machine needs."""
    queue = Sqs(embedded_s3, max_receives=10)
    queue.hear(bucket)
    return queue


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving(200) as receiver:
        yield receiver


@pytest.fixture
def overrides(embedded_s3: EmbeddedS3, bucket: str, sqs: Sqs, world_url: str, receiver: Receiver) -> dict[str, Any]:
    return {
        "cloud_storage_provider": "s3",
        "bucket_name": bucket,
        "region": embedded_s3.region,
        "access_key_id": embedded_s3.access_key,
        "secret_access_key": embedded_s3.secret_key,
        "s3_endpoint_url": embedded_s3.endpoint_url,
        "s3_path_style": True,
        "secret_key": "a-secret-of-the-crash-tests-and-no-other",
        "database_url": world_url,
        "sqs_queue_url": sqs.url,
        "sqs_endpoint_url": embedded_s3.endpoint_url,
        "webhook_urls": (receiver.url,),
        "webhook_secrets": (SECRET,),
        "webhook_loopback_http": True,
    }


@contextmanager
def working(overrides: dict[str, Any], **options: Any) -> Iterator[Worker]:
    worker = start_worker(overrides, **options)
    try:
        yield worker
    finally:
        worker.end()


async def settled(world: World, media: Media, sqs: Sqs, receiver: Receiver, dying: Worker | None = None) -> bool:
    """Wait until a media is ready, its event deleted, its webhook delivered and noted; false: `dying` has died."""

    async def is_settled_or_dead() -> bool:
        if dying is not None and dying.process.exitcode is not None:
            return True
        ready = await world.state(media.id) == State.READY
        told = message_id(media) in receiver.ids and not await world.store.outbox.kept(1)
        return ready and told and await asyncio.to_thread(lambda: sqs.left) == 0

    await until(is_settled_or_dead)
    return dying is None or dying.process.exitcode is None


def message_id(media: Media) -> str:
    return f"msg_{media.id.hex}_ready"


def in_order(steps: list[str], expected: tuple[str, ...]) -> bool:
    left = iter(steps)
    return all(step in left for step in expected)


@pytest.mark.timeout(300)
async def test_a_death_before_any_step_loses_no_event_and_no_webhook(
    world: World, sqs: Sqs, receiver: Receiver, overrides: dict[str, Any]
) -> None:
    sqs.take_all()
    media = (await world.uploaded()).media
    with working(overrides) as worker:
        await settled(world, media, sqs, receiver)
        steps = worker.steps()
    assert in_order(steps, EXPECTED), steps
    assert in_order(steps, TOLD), steps
    deaths = 0
    while True:
        media = (await world.uploaded()).media
        with working(overrides, die_before=deaths + 1) as dying:
            if await settled(world, media, sqs, receiver, dying):
                break
            assert dying.process.exitcode == -signal.SIGKILL
            taken = dying.steps()
        assert len(taken) == deaths
        deaths += 1
        with working(overrides, ahead=LONG):
            await settled(world, media, sqs, receiver)
        told = [(headers["webhook-id"], body) for headers, body in receiver.requests]
        own = [body for webhook_id, body in told if webhook_id == message_id(media)]
        assert 1 <= len(own) <= 2, f"after {taken}"
        assert len(set(own)) == 1, f"after {taken}"
        assert await world.ready_bytes(media.id) is not None, f"after {taken}"
    assert deaths >= len({*EXPECTED, *TOLD})
    assert sqs.dead == 0
