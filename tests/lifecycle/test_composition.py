"""The composition of parts: overwritten parts, long compositions, and those that another caller takes over."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from broker.aws.bucket import Bucket
from broker.aws.client import Answer
from broker.dev.s3 import EmbeddedS3, Fault
from broker.domain.media import Event, State
from broker.errors import PromotionRunning, UploadRejected
from broker.lifecycle import leases
from broker.lifecycle.leases import LEASE
from broker.lifecycle.resumable import settlement
from tests.support.gates import Gate, OverwrittenPart, OverwrittenUnconditionally, calls
from tests.support.in_parts import (
    COUNT,
    FILE,
    LIMITS,
    OTHER_PART,
    left_over,
    page_of,
    piece,
    post_parts,
    uploaded,
)
from tests.support.s3_proxy import PASS, Fate, Request, S3Proxy
from tests.support.world import GRACE_SECONDS, POLICY_SECONDS, VIDEO, MakeWorld, World, outcome_of

AFTER_LEASE = {"seconds": LEASE.total_seconds() + 1}
AFTER_POLICIES = {"seconds": 2 * POLICY_SECONDS + GRACE_SECONDS + 1}


@pytest.fixture
def world_url(database_url: str) -> str:
    return database_url


async def settled(world: World, *media: object) -> None:
    """Return once no composition of this broker is running."""
    while running := world.settlement._resumable._running:
        await asyncio.wait(set(running))


OUTCOMES = ("composed", "overwritten", "lost", "failed")


@contextmanager
def counting() -> Iterator[dict[str, int]]:
    """Yield a dictionary that holds, after the block, how many compositions ended in it with each outcome."""

    def counts() -> dict[str, int]:
        metric = "broker_composition_outcomes_total"
        return {name: int(REGISTRY.get_sample_value(metric, {"outcome": name}) or 0) for name in OUTCOMES}

    before, ended = counts(), dict[str, int]()
    yield ended
    ended |= {name: count - before[name] for name, count in counts().items() if count != before[name]}


async def test_each_end_of_a_composition_is_counted(make_world: MakeWorld, embedded_s3: EmbeddedS3) -> None:
    world = make_world(OverwrittenPart, **LIMITS)
    world.bucket.body = OTHER_PART  # type: ignore[attr-defined]
    issued = await uploaded(world)
    with counting() as ended:
        embedded_s3.order_fault(Fault("CreateMultipartUpload", code="AccessDenied", status=403))
        assert await outcome_of(world.verbs.complete(issued.media.id, "anna")) == "StorageRefused"
    assert ended == {"failed": 1}
    with counting() as ended:
        assert await outcome_of(world.verbs.complete(issued.media.id, "anna")) == "ready"
    assert ended == {"overwritten": 1, "composed": 1}


@pytest.mark.parametrize("bucket_class", [OverwrittenPart, OverwrittenUnconditionally])
async def test_a_part_that_is_overwritten_before_its_copy_is_judged_again(
    make_world: MakeWorld, bucket_class: type[OverwrittenPart]
) -> None:
    world = make_world(bucket_class, **LIMITS)
    world.bucket.body = OTHER_PART  # type: ignore[attr-defined]
    issued = await uploaded(world)
    playback = await world.verbs.complete(issued.media.id, "anna")
    assert (playback.media.judgements, playback.media.attempt) == (2, 2)
    assert await world.ready_bytes(issued.media.id) == piece(FILE, 1) + OTHER_PART + piece(FILE, 3)
    await world.purged()
    assert left_over(world, issued.media) == []


@pytest.mark.parametrize("bucket_class", [OverwrittenPart, OverwrittenUnconditionally])
async def test_a_part_that_is_overwritten_repeatedly_rejects_the_upload(
    make_world: MakeWorld, bucket_class: type[OverwrittenPart]
) -> None:
    world = make_world(bucket_class, **LIMITS)
    world.bucket.body, world.bucket.times = OTHER_PART, 11  # type: ignore[attr-defined]
    issued = await uploaded(world)
    with pytest.raises(UploadRejected, match="overwritten while it was being checked"):
        await world.verbs.complete(issued.media.id, "anna")
    await world.purged()
    assert left_over(world, issued.media) == []
    assert world.final_bytes(issued.media) is None


async def test_a_long_composition_answers_its_caller_and_goes_on(gate: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settlement, "PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.01)
    issued = await uploaded(gate)
    calls(gate).held = {"upload_part_copy"}
    with pytest.raises(PromotionRunning):
        await gate.verbs.complete(issued.media.id, "anna")
    await calls(gate).reached.wait()
    gate.clock.move(**AFTER_LEASE)
    await gate.renewed(issued.media.id)
    assert (await gate.store.get(issued.media.id, None)).state is State.PROMOTING
    assert await gate.sweep.once() == 0  # no other caller takes it over
    calls(gate).let_go.set()
    await settled(gate)
    assert (await gate.verbs.complete(issued.media.id, "anna")).media.attempt == 1
    assert await gate.ready_bytes(issued.media.id) == FILE


class Broken(Gate):
    """Fail in an unexpected way once a call to S3 is let go."""

    async def _call(self, operation: str, method: str, key: str = "", **options: Any) -> Answer:
        answer = await super()._call(operation, method, key, **options)
        if operation == "create_multipart_upload":
            raise LookupError("unexpected")
        return answer


@pytest.mark.parametrize("waits", [True, False], ids=["its caller waits", "its caller has left"])
async def test_an_unexpected_failure_is_raised_or_logged_and_never_both(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    world = make_world(Broken, **LIMITS)
    issued = await uploaded(world)
    with capture_logs() as logs, counting() as ended:
        if waits:
            with pytest.raises(LookupError):
                await world.verbs.complete(issued.media.id, "anna")
        else:
            monkeypatch.setattr(settlement, "PATIENCE_SECONDS", 0.01)
            calls(world).held = {"create_multipart_upload"}
            with pytest.raises(PromotionRunning):
                await world.verbs.complete(issued.media.id, "anna")
            calls(world).let_go.set()
            await settled(world)
    failures = [(line["event"], line["log_level"], type(line["exc_info"])) for line in logs if "exc_info" in line]
    assert failures == ([] if waits else [("composition failed", "error", LookupError)])
    assert ended == {"failed": 1}


async def test_compositions_beyond_the_bound_wait_in_the_database_for_any_replica(
    gate: World, make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlement, "MAX_ADMITTED", 4)
    monkeypatch.setattr(settlement, "PATIENCE_SECONDS", 0.01)
    ids = [(await uploaded(gate, VIDEO)).media.id for _ in range(9)]

    async def counts() -> Counter[str]:
        return Counter([await gate.state(media_id) for media_id in ids])

    calls(gate).held = {"create_multipart_upload"}
    gate.clock.move(**AFTER_POLICIES)
    await gate.sweep.once()
    while (await counts())[State.PROMOTING] < 4:
        await asyncio.sleep(0.01)
    assert await counts() == {State.PROMOTING: 4, State.PENDING: 5}
    lists = calls(gate).operations.count("list_objects_v2")
    waiting = [media_id for media_id in ids if await gate.state(media_id) is State.PENDING]
    assert await gate.sweep.once() == 0
    assert await outcome_of(gate.verbs.complete(waiting[0], "anna")) == "PromotionRunning"
    assert calls(gate).operations.count("list_objects_v2") == lists > 0

    other = make_world(**LIMITS)
    while (await counts())[State.READY] < 5:
        await other.sweep.once()
        await settled(other)
    assert await counts() == {State.PROMOTING: 4, State.READY: 5}
    calls(gate).let_go.set()
    await settled(gate)
    assert await counts() == {State.READY: 9}


@pytest.mark.parametrize("state", [State.PENDING, State.EXPIRED])
async def test_a_media_without_room_is_due_at_once_unless_that_is_its_last_look(
    gate: World, monkeypatch: pytest.MonkeyPatch, state: State
) -> None:
    media = (await uploaded(gate, VIDEO)).media
    if state is State.EXPIRED:
        expired = await gate.store.change(media, Event.EXPIRE, due_at=gate.clock() + timedelta(hours=1))
        assert expired is not None
        media = expired
    monkeypatch.setattr(settlement, "MAX_ADMITTED", 0)
    before = media.due_at
    assert before is not None
    assert await outcome_of(gate.verbs.complete(media.id, "anna")) == "PromotionRunning"
    after = (await gate.store.get(media.id, None)).due_at
    assert after is not None
    assert (after == before) is (state is State.EXPIRED)
    assert (after <= gate.clock()) is (state is State.PENDING)


async def test_a_process_that_stops_hands_its_composition_over(gate: World, make_world: MakeWorld) -> None:
    issued = await uploaded(gate)
    calls(gate).held = {"complete_multipart_upload"}
    completing = asyncio.create_task(outcome_of(gate.verbs.complete(issued.media.id, "anna")))
    await calls(gate).reached.wait()
    await gate.settlement.close()
    completing.cancel()
    other = make_world(Gate, **LIMITS)
    playback = await other.verbs.complete(issued.media.id, "anna")
    assert playback.media.attempt == 1
    assert calls(other).operations.count("upload_part_copy") == 0
    assert await other.ready_bytes(issued.media.id) == FILE


async def test_a_slow_lease_holder_does_not_harm_what_another_one_composed(gate: World, make_world: MakeWorld) -> None:
    issued = await uploaded(gate)
    calls(gate).held = {"upload_part_copy"}
    overtaken = asyncio.create_task(outcome_of(gate.verbs.complete(issued.media.id, "anna")))
    await calls(gate).reached.wait()
    gate.clock.move(**AFTER_LEASE)
    other = make_world(Gate, **LIMITS)
    assert (await other.verbs.complete(issued.media.id, "anna")).media.attempt == 1
    assert calls(other).operations.count("upload_part_copy") == COUNT
    calls(gate).let_go.set()
    assert await overtaken == "ready"
    await gate.purged()
    await other.purged()
    assert await other.ready_bytes(issued.media.id) == FILE
    assert left_over(other, issued.media) == []


async def test_two_lease_holders_complete_the_same_object(gate: World, make_world: MakeWorld) -> None:
    issued = await uploaded(gate)
    calls(gate).held = {"complete_multipart_upload"}
    overtaken = asyncio.create_task(outcome_of(gate.verbs.complete(issued.media.id, "anna")))
    await calls(gate).reached.wait()
    gate.clock.move(**AFTER_LEASE)
    other = make_world(**LIMITS)
    ready = (await other.verbs.complete(issued.media.id, "anna")).media
    calls(gate).let_go.set()
    assert await overtaken == "ready"
    await gate.purged()
    assert (await other.store.get(issued.media.id, None)) == ready
    assert await other.ready_bytes(issued.media.id) == FILE


async def test_a_deletion_ends_a_composition(gate: World) -> None:
    issued = await uploaded(gate)
    calls(gate).held = {"complete_multipart_upload"}
    overtaken = asyncio.create_task(outcome_of(gate.verbs.complete(issued.media.id, "anna")))
    await calls(gate).reached.wait()
    await gate.verbs.delete(issued.media.id, "anna")
    with counting() as ended:
        calls(gate).let_go.set()
        assert await overtaken == "MediaNotFound"
    assert ended == {"lost": 1}
    await gate.purged()
    assert left_over(gate, issued.media) == []
    assert gate.final_bytes(issued.media) is None


@pytest.fixture
async def proxy(embedded_s3: EmbeddedS3) -> AsyncIterator[S3Proxy]:
    """Run a proxy before S3 that passes every request, until a test decides otherwise."""
    async with S3Proxy(embedded_s3.endpoint_url, _pass).serving() as served:
        yield served


async def _pass(request: Request) -> Fate:
    return PASS


class Holding:
    """Hold the requests to S3 whose target holds `what`; their clients time out."""

    def __init__(self, what: str, method: str) -> None:
        self.what, self.method = what, method
        self.let_go = asyncio.Event()

    async def __call__(self, request: Request) -> Fate:
        held = request.method == self.method and self.what in request.target and "partNumber" not in request.target
        return Fate(until=self.let_go) if held else PASS


def behind(make_world: MakeWorld, proxy: S3Proxy, embedded_s3: EmbeddedS3) -> World:
    return make_world(
        Bucket, endpoint_url=proxy.url, public_endpoint_url=embedded_s3.endpoint_url, timeout_seconds=0.5, **LIMITS
    )


async def test_a_completion_that_s3_carries_out_late_changes_nothing(
    make_world: MakeWorld, proxy: S3Proxy, embedded_s3: EmbeddedS3
) -> None:
    world = behind(make_world, proxy, embedded_s3)
    issued = await uploaded(world)
    holding = Holding("uploadId=", "POST")
    proxy.decide = holding
    assert await outcome_of(world.verbs.complete(issued.media.id, "anna")) == "StorageUnavailable"
    proxy.decide = _pass
    playback = await world.verbs.complete(issued.media.id, "anna")
    holding.let_go.set()
    await proxy.drained()
    assert (await asyncio.to_thread(httpx.get, playback.signed_url)).content == FILE


async def test_a_completion_that_s3_carries_out_after_a_deletion_leaves_nothing(
    make_world: MakeWorld, proxy: S3Proxy, embedded_s3: EmbeddedS3
) -> None:
    world = behind(make_world, proxy, embedded_s3)
    issued = await uploaded(world)
    holding = Holding("uploadId=", "POST")
    proxy.decide = holding
    assert await outcome_of(world.verbs.complete(issued.media.id, "anna")) == "StorageUnavailable"
    proxy.decide = _pass
    await world.verbs.delete(issued.media.id, "anna")
    holding.let_go.set()
    await proxy.drained()
    assert left_over(world, issued.media) == []
    assert world.final_bytes(issued.media) is None


async def test_a_multipart_upload_that_s3_creates_late_is_aborted_by_the_last_purge(
    make_world: MakeWorld, proxy: S3Proxy, embedded_s3: EmbeddedS3
) -> None:
    world = behind(make_world, proxy, embedded_s3)
    issued = await uploaded(world)
    holding = Holding("uploads=", "POST")
    proxy.decide = holding
    assert await outcome_of(world.verbs.complete(issued.media.id, "anna")) == "StorageUnavailable"
    proxy.decide = _pass
    await world.verbs.complete(issued.media.id, "anna")
    await world.purged()
    holding.let_go.set()
    await proxy.drained()
    assert left_over(world, issued.media) != []
    post_parts(page_of(issued))
    await world.sweep_after(**AFTER_POLICIES)
    assert left_over(world, issued.media) == []
    assert await world.ready_bytes(issued.media.id) == FILE
