"""Requests that S3 carries out after their caller gave up harm no media."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from broker.dev.s3 import EmbeddedS3
from tests.support.s3_proxy import PASS, Fate, Request, S3Proxy
from tests.support.world import OTHER, VIDEO, MakeWorld, outcome_of


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


async def test_a_late_purge_never_removes_the_object_of_a_ready_media(
    make_world: MakeWorld, proxy: S3Proxy, embedded_s3: EmbeddedS3
) -> None:
    world = make_world(endpoint_url=proxy.url, public_endpoint_url=embedded_s3.endpoint_url, timeout_seconds=0.5)
    issued = await world.uploaded()
    let_go = asyncio.Event()
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

    async def proceed(request: Request) -> Fate:
        return PASS

    proxy.decide = overwrite_and_hold
    await outcome_of(world.verbs.complete(issued.media.id, "anna"))
    await world.purged()
    proxy.decide = proceed
    playback = await world.verbs.complete(issued.media.id, "anna")
    let_go.set()
    await proxy.drained()
    assert held > 0
    played = await asyncio.to_thread(httpx.get, playback.signed_url)
    assert (played.status_code, played.content) == (200, OTHER)
    assert world.final_bytes(issued.media) == OTHER


async def test_a_copy_that_is_carried_out_after_its_lease_leaves_nothing(
    make_world: MakeWorld, proxy: S3Proxy, embedded_s3: EmbeddedS3
) -> None:
    world = make_world(endpoint_url=proxy.url, public_endpoint_url=embedded_s3.endpoint_url, timeout_seconds=0.5)
    issued = await world.uploaded()
    let_go = asyncio.Event()

    async def hold_copies(request: Request) -> Fate:
        return Fate(until=let_go) if request.is_copy else PASS

    async def proceed(request: Request) -> Fate:
        return PASS

    proxy.decide = hold_copies
    assert await outcome_of(world.verbs.complete(issued.media.id, "anna")) == "StorageUnavailable"
    proxy.decide = proceed
    playback = await world.verbs.complete(issued.media.id, "anna")
    await world.purged()
    assert (await asyncio.to_thread(world.post, issued)).status_code == 201
    let_go.set()
    await proxy.drained()
    await world.sweep_after(hours=1)
    assert (await asyncio.to_thread(httpx.get, playback.signed_url)).content == VIDEO
    assert world.final_bytes(issued.media) == VIDEO
    assert world.staged_bytes(issued.media) is None
