"""Requests that S3 carries out after their caller gave up harm no media."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import httpx
import pytest

from broker.dev.s3 import EmbeddedS3
from broker.domain.keys import staging_key
from broker.domain.media import Media, State
from broker.lifecycle.due import MAX_CLOCK_DIFFERENCE
from tests.support.s3_proxy import PASS, Fate, Request, S3Proxy
from tests.support.world import OTHER, VIDEO, MakeWorld, World, outcome_of


@pytest.fixture
def world_url(database_url: str) -> str:
    """Run each test of this module on both databases."""
    return database_url


async def _pass(request: Request) -> Fate:
    return PASS


@pytest.fixture
async def proxy(embedded_s3: EmbeddedS3) -> AsyncIterator[S3Proxy]:
    """Run a proxy before S3 that passes every request, until a test decides otherwise."""
    async with S3Proxy(embedded_s3.endpoint_url, _pass).serving() as served:
        yield served


@pytest.fixture
def let_go(proxy: S3Proxy) -> Iterator[asyncio.Event]:
    """Return the event for which held requests wait; also the end of the test sets it."""
    event = asyncio.Event()
    yield event
    event.set()


async def test_a_late_purge_never_removes_the_object_of_a_ready_media(
    make_world: MakeWorld, proxy: S3Proxy, let_go: asyncio.Event, embedded_s3: EmbeddedS3
) -> None:
    world = make_world(endpoint_url=proxy.url, public_endpoint_url=embedded_s3.endpoint_url, timeout_seconds=0.5)
    issued = await world.uploaded()
    held = 0
    overwritten = False

    async def overwrite_and_hold(request: Request) -> Fate:
        nonlocal held, overwritten
        if request.is_copy and not overwritten:
            overwritten = True
            await asyncio.to_thread(world.post, issued, OTHER)
        if request.purges_a_final_key:
            held += 1
            return Fate(until=let_go)
        return PASS

    proxy.decide = overwrite_and_hold
    await outcome_of(world.verbs.complete(issued.media.id, "anna"))
    await world.purged()
    proxy.decide = _pass
    playback = await world.verbs.complete(issued.media.id, "anna")
    let_go.set()
    await proxy.drained()
    assert held > 0
    played = await asyncio.to_thread(httpx.get, playback.signed_url)
    assert (played.status_code, played.content) == (200, OTHER)
    assert world.final_bytes(issued.media) == OTHER


async def test_a_copy_that_is_carried_out_after_its_lease_leaves_nothing(
    make_world: MakeWorld, proxy: S3Proxy, let_go: asyncio.Event, embedded_s3: EmbeddedS3
) -> None:
    world = make_world(endpoint_url=proxy.url, public_endpoint_url=embedded_s3.endpoint_url, timeout_seconds=0.5)
    issued = await world.uploaded()

    async def hold_copies(request: Request) -> Fate:
        return Fate(until=let_go) if request.is_copy else PASS

    proxy.decide = hold_copies
    assert await outcome_of(world.verbs.complete(issued.media.id, "anna")) == "StorageUnavailable"
    proxy.decide = _pass
    playback = await world.verbs.complete(issued.media.id, "anna")
    await world.purged()
    assert (await asyncio.to_thread(world.post, issued)).status_code == 201
    let_go.set()
    await proxy.drained()
    await world.sweep_after(hours=1)
    assert (await asyncio.to_thread(httpx.get, playback.signed_url)).content == VIDEO
    assert world.final_bytes(issued.media) == VIDEO
    assert world.staged_bytes(issued.media) is None


async def become_ready(world: World, media: Media) -> None:
    await world.verbs.complete(media.id, "anna")


async def become_rejected(world: World, media: Media) -> None:
    key = staging_key(media.id)
    world.s3.put_object(Bucket=world.bucket.config.name, Key=key, Body=OTHER, ContentType="text/html")
    assert await outcome_of(world.verbs.complete(media.id, "anna")) == "UploadRejected"


async def become_deleted(world: World, media: Media) -> None:
    await world.verbs.complete(media.id, "anna")
    await world.verbs.delete(media.id, "anna")


@pytest.mark.parametrize(
    ("finish", "state"),
    [(become_ready, State.READY), (become_rejected, State.REJECTED), (become_deleted, State.DELETED)],
)
async def test_what_follows_the_purge_of_a_replica_whose_clock_is_ahead_is_removed(
    make_world: MakeWorld,
    proxy: S3Proxy,
    let_go: asyncio.Event,
    embedded_s3: EmbeddedS3,
    finish: Callable[[World, Media], Awaitable[None]],
    state: State,
) -> None:
    world = make_world(endpoint_url=proxy.url, public_endpoint_url=embedded_s3.endpoint_url, timeout_seconds=0.5)
    issued = await world.uploaded()

    async def hold_copies(request: Request) -> Fate:
        return Fate(until=let_go) if request.is_copy else PASS

    proxy.decide = hold_copies
    assert await outcome_of(world.verbs.complete(issued.media.id, "anna")) == "StorageUnavailable"
    proxy.decide = _pass
    await finish(world, issued.media)
    await world.sweep_after(hours=1)
    assert await world.state(issued.media.id) == state
    world.clock.move(hours=-1)
    assert (await asyncio.to_thread(world.post, issued)).status_code == 201
    let_go.set()
    await proxy.drained()
    late = sorted(key for key in world.stored_keys() if str(issued.media.id) in key)
    assert [key.partition("/")[0] for key in late] == ["media", *["media"] * (state is State.READY), "staging"]

    await world.sweep_after(hours=2)
    await world.sweep_after(seconds=MAX_CLOCK_DIFFERENCE.total_seconds())
    assert world.staged_bytes(issued.media) is None
    assert world.final_bytes(issued.media) == (VIDEO if state is State.READY else None)
    assert (await world.store.get(issued.media.id, None)).due_at is None
