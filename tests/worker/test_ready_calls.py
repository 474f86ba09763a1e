"""The calls of `on_ready`: at least once for each ready media, after failures and restarts too, and for no other."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs

from broker import create_router
from broker.dev.s3 import EmbeddedS3
from broker.domain.announcement import ON_READY, PATIENCE
from broker.worker.ready_calls import ReadyCalls, ReadyHandler, ReadyMedia
from broker.worker.webhooks import CLAIM, Webhooks, delay
from tests.support.processes import done
from tests.support.receiver import receiving
from tests.support.serving import bearing, client_of, on_s3, settings_of, token
from tests.support.world import VIDEO, MakeWorld, World
from tests.worker.conftest import until
from tests.worker.sending import sending


def calls_of(world: World, handler: ReadyHandler, *, seconds: float = 5) -> Webhooks:
    """Return the job that calls `handler`, at rest."""
    calls = ReadyCalls(handler, timeout_seconds=seconds)
    return Webhooks(world.store.outbox, calls, (ON_READY,), clock=world.clock)


async def test_each_ready_media_is_told_with_its_facts_and_no_other_state(make_world: MakeWorld) -> None:
    heard: list[ReadyMedia] = []

    async def on_ready(media: ReadyMedia) -> None:
        heard.append(media)

    world = make_world(announce_to=(ON_READY,))
    issued = await world.uploaded(filename="a.mp4", metadata={"album": "7"}, duration_seconds=1.5)
    unused = await world.issue()
    await world.verbs.complete(issued.media.id, "anna")
    await world.verbs.delete(issued.media.id, "anna")
    await world.sweep_after(hours=2)
    assert await world.state(unused.media.id) == "expired"
    webhooks = calls_of(world, on_ready)
    assert await webhooks.once(ON_READY) == 1
    assert await webhooks.once(ON_READY) == 0
    (media,) = heard
    assert media == ReadyMedia(
        message_id=f"msg_{issued.media.id.hex}_ready",
        media_id=issued.media.id,
        owner="anna",
        content_type="video/mp4",
        size=len(VIDEO),
        filename="a.mp4",
        duration_seconds=1.5,
        metadata={"album": "7"},
        video=None,
        created_at=issued.media.created_at,
        ready_at=media.ready_at,
    )
    assert media.ready_at >= media.created_at
    assert await world.store.outbox.kept(1) == []


async def fails(media: ReadyMedia) -> None:
    raise ZeroDivisionError


async def hangs(media: ReadyMedia) -> None:
    await asyncio.sleep(600)


async def times_out(media: ReadyMedia) -> None:
    raise TimeoutError


async def awaits_a_cancelled_task(media: ReadyMedia) -> None:
    task = asyncio.create_task(asyncio.sleep(600))
    task.cancel()
    await task


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (fails, "on_ready raised ZeroDivisionError"),
        (hangs, "on_ready did not return within 0.2 seconds"),
        (times_out, "on_ready raised TimeoutError"),
        (awaits_a_cancelled_task, "on_ready raised HandlerCancelled"),
    ],
)
async def test_after_a_failure_it_is_called_again_later(
    make_world: MakeWorld, handler: Callable[[ReadyMedia], Awaitable[None]], reason: str
) -> None:
    heard: list[str] = []

    async def on_ready(media: ReadyMedia) -> None:
        heard.append(media.message_id)
        if len(heard) == 1:
            await handler(media)

    world = make_world(announce_to=(ON_READY,))
    issued = await world.uploaded()
    await world.verbs.complete(issued.media.id, "anna")
    webhooks = calls_of(world, on_ready, seconds=0.2)
    assert await webhooks.once(ON_READY) == 1
    (waiting,) = await world.store.outbox.kept(2)
    assert (waiting.attempts, waiting.failure) == (1, reason)
    assert waiting.give_up_at - waiting.at == PATIENCE
    assert await webhooks.once(ON_READY) == 0
    world.clock.move(seconds=delay(1, 1.0).total_seconds())
    assert await webhooks.once(ON_READY) == 1
    assert heard == [f"msg_{issued.media.id.hex}_ready"] * 2
    assert await world.store.outbox.kept(1) == []


async def test_the_operator_sees_the_calls_that_failed_and_has_them_made_again(
    make_world: MakeWorld, world_url: str, tmp_path: Path
) -> None:
    heard: list[str] = []

    async def on_ready(media: ReadyMedia) -> None:
        heard.append(media.message_id)
        if len(heard) == 1:
            raise ZeroDivisionError

    world = make_world(announce_to=(ON_READY,))
    issued = await world.uploaded()
    await world.verbs.complete(issued.media.id, "anna")
    calls = calls_of(world, on_ready)
    assert await calls.once(ON_READY) == 1
    variables = {"SECRET_KEY": "a-key-of-the-tests-and-of-another-else", "BROKER_DATABASE_URL": world_url}
    variables |= {"AWS_S3_BUCKET_NAME": "videos"}
    listed = await asyncio.to_thread(done, "webhooks", "list", cwd=tmp_path, **variables)
    assert f"msg_{issued.media.id.hex}_ready  on_ready  next" in listed.stdout
    assert "on_ready raised ZeroDivisionError" in listed.stdout
    again = await asyncio.to_thread(done, "webhooks", "retry", "on_ready", cwd=tmp_path, **variables)
    assert again.stdout == "The worker will send 1 webhook now.\n"
    assert await calls.once(ON_READY) == 1
    assert len(heard) == 2


async def test_a_process_that_dies_during_the_call_causes_another_one(make_world: MakeWorld) -> None:
    heard: list[str] = []

    async def on_ready(media: ReadyMedia) -> None:
        heard.append(media.message_id)

    world = make_world(announce_to=(ON_READY,))
    issued = await world.uploaded()
    await world.verbs.complete(issued.media.id, "anna")
    now = world.clock()
    (claimed,) = await world.store.outbox.claim(ON_READY, now, lease_until=now + CLAIM, limit=10)
    assert (await ReadyCalls(on_ready).send(claimed, now)).delivered  # and dies before this is recorded
    webhooks = calls_of(world, on_ready)
    assert await webhooks.once(ON_READY) == 0
    world.clock.move(seconds=(CLAIM + timedelta(seconds=1)).total_seconds())
    assert await webhooks.once(ON_READY) == 1
    assert len(heard) == 2
    assert len(set(heard)) == 1


async def test_a_webhook_and_the_function_are_told_independently(make_world: MakeWorld) -> None:
    heard: list[ReadyMedia] = []

    async def on_ready(media: ReadyMedia) -> None:
        heard.append(media)

    async with receiving(500) as receiver:
        world = make_world(announce_to=(receiver.url, ON_READY))
        issued = await world.uploaded()
        await world.verbs.complete(issued.media.id, "anna")
        async with sending(world, receiver) as webhooks:
            await webhooks.once(receiver.url)
        await calls_of(world, on_ready).once(ON_READY)
        (left,) = await world.store.outbox.kept(5)
    assert (len(heard), left.target) == (1, receiver.url)


@pytest.mark.parametrize("handler", [fails, awaits_a_cancelled_task])
async def test_a_failing_function_ends_no_job_and_leaks_nothing(make_world: MakeWorld, handler: ReadyHandler) -> None:
    world = make_world(announce_to=(ON_READY,))
    calls = calls_of(world, handler)
    with capture_logs() as logs:
        running = asyncio.create_task(calls.run())
        issued = await world.uploaded(filename="canary.mp4")
        await world.verbs.complete(issued.media.id, "anna")
        await until(lambda: any(line["event"] == "on_ready failed" for line in logs))
        assert not running.done()
        await calls.stop()
        await running
    assert "canary" not in str([line for line in logs if line["event"] != "request"])


async def test_a_cancelled_job_cancels_the_function_that_it_awaits(make_world: MakeWorld) -> None:
    is_called = asyncio.Event()

    async def on_ready(media: ReadyMedia) -> None:
        is_called.set()
        await asyncio.sleep(600)

    world = make_world(announce_to=(ON_READY,))
    issued = await world.uploaded()
    await world.verbs.complete(issued.media.id, "anna")
    running = asyncio.create_task(calls_of(world, on_ready, seconds=600).run())
    await is_called.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    (waiting,) = await world.store.outbox.kept(2)
    assert waiting.attempts == 0


async def test_the_function_of_a_host_is_called_by_its_own_process(
    tmp_path: Path, embedded_s3: EmbeddedS3, bucket: str
) -> None:
    heard: list[ReadyMedia] = []

    async def on_ready(media: ReadyMedia) -> None:
        heard.append(media)

    settings = settings_of(tmp_path, sweep=True, **on_s3(embedded_s3, bucket))
    host = FastAPI()
    host.include_router(create_router(settings, on_ready=on_ready), prefix="/videos")
    async with client_of(host) as client, httpx.AsyncClient() as s3:
        headers = bearing(token("anna"))
        body = {"content_type": "video/mp4", "size": len(VIDEO)}
        issued = (await client.post("/videos/upload", json=body, headers=headers)).json()
        form = issued["upload"]
        await s3.post(form["url"], data=form["fields"], files={"file": ("a.mp4", VIDEO)})
        completed = await client.post(f"/videos/{issued['media_id']}/complete", headers=headers)
        assert completed.status_code == 200
        await until(lambda: heard)
    assert [str(media.media_id) for media in heard] == [issued["media_id"]]
