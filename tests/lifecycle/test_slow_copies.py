"""Copies that take long hold up nothing but themselves."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from broker.dev.s3 import EmbeddedS3
from broker.domain.media import State
from broker.lifecycle import leases
from broker.lifecycle.leases import LEASE
from tests.support.gates import Gate, calls
from tests.support.in_parts import COUNT, FILE, PART, uploaded
from tests.support.s3_proxy import PASS, Fate, Request, S3Proxy
from tests.support.world import VIDEO, MakeWorld, outcome_of

PLACES, COPIES = 4, 3
"""The size of the pool, and how many of its places copies may take."""


class HeldCopies:
    """A proxy before S3 that holds every copy until `let_go` is set; `are_full` is set once COPIES are held."""

    def __init__(self, s3: EmbeddedS3) -> None:
        self.proxy = S3Proxy(s3.endpoint_url, self._decide)
        self.let_go = asyncio.Event()
        self.are_full = asyncio.Event()
        self.count = 0

    async def _decide(self, request: Request) -> Fate:
        if self.let_go.is_set() or not request.is_copy:
            return PASS
        self.count += 1
        if self.count == COPIES:
            self.are_full.set()
        return Fate(until=self.let_go)


@pytest.fixture
async def held(embedded_s3: EmbeddedS3) -> AsyncIterator[HeldCopies]:
    copies = HeldCopies(embedded_s3)
    async with copies.proxy.serving():
        yield copies
        copies.let_go.set()


async def test_issue_playback_delete_and_judgement_do_not_wait_behind_copies(
    make_world: MakeWorld, held: HeldCopies, embedded_s3: EmbeddedS3
) -> None:
    world = make_world(
        endpoint_url=held.proxy.url,
        public_endpoint_url=embedded_s3.endpoint_url,
        timeout_seconds=60,
        pool_size=PLACES,
    )
    held.let_go.set()
    ready = (await world.verbs.complete((await world.uploaded()).media.id, "anna")).media
    held.let_go.clear()
    slow = [await world.uploaded() for _ in range(2 * PLACES)]
    completions = [asyncio.create_task(world.verbs.complete(issued.media.id, "anna")) for issued in slow]
    await held.are_full.wait()

    issued = await world.uploaded()
    assert (await world.verbs.playback(ready.id, "anna", expires_in=60, download=False)).signed_url
    await world.verbs.delete(ready.id, "anna")
    assert world.final_bytes(ready) is None
    await world.verbs.delete(issued.media.id, "anna")
    assert world.staged_bytes(issued.media) is None
    assert await world.bucket.head("nothing-there") is None

    assert held.count == COPIES
    assert not any(completion.done() for completion in completions)
    held.let_go.set()
    assert {playback.media.state for playback in await asyncio.gather(*completions)} == {State.READY}


@pytest.mark.timeout(20)
async def test_a_copy_that_takes_longer_than_a_lease_is_made_once(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.01)
    world = make_world(Gate)
    media = (await world.uploaded()).media
    calls(world).held = {"copy_object"}
    completion = asyncio.create_task(world.verbs.complete(media.id, "anna"))
    await calls(world).reached.wait()
    world.clock.move(seconds=LEASE.total_seconds() + 1)
    await world.renewed(media.id)
    assert await world.sweep.once() == 0
    calls(world).let_go.set()
    assert (await completion).media.attempt == 1
    assert calls(world).operations.count("copy_object") == 1
    assert await world.ready_bytes(media.id) == VIDEO


async def test_the_copies_of_parts_leave_the_same_places_free(
    make_world: MakeWorld, held: HeldCopies, embedded_s3: EmbeddedS3
) -> None:
    world = make_world(
        endpoint_url=held.proxy.url,
        public_endpoint_url=embedded_s3.endpoint_url,
        timeout_seconds=60,
        pool_size=PLACES,
        max_size=100_000_000,
        part_size=PART,
    )
    issued = [await uploaded(world) for _ in range(2)]
    assert 2 * COUNT > PLACES
    completions = [asyncio.create_task(outcome_of(world.verbs.complete(each.media.id, "anna"))) for each in issued]
    await held.are_full.wait()
    assert await world.bucket.head("nothing-there") is None
    assert held.count == COPIES
    held.let_go.set()
    await asyncio.gather(*completions)
    assert [await world.ready_bytes(each.media.id) for each in issued] == [FILE, FILE]
