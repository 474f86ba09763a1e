"""Compositions that end early, and what the next caller makes of them."""

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from broker.aws.client import Answer
from broker.dev.s3 import EmbeddedS3, Fault
from broker.domain.keys import current_key, part_key
from broker.domain.media import Media, State
from tests.support.gates import Gate, calls
from tests.support.in_parts import COUNT, FILE, LIMITS, OTHER_PART, left_over, piece, uploaded
from tests.support.world import MakeWorld, World, outcome_of


async def test_a_deletion_before_the_first_copy_leaves_no_multipart_upload(gate: World) -> None:
    issued = await uploaded(gate)
    calls(gate).held = {"create_multipart_upload"}
    overtaken = asyncio.create_task(outcome_of(gate.verbs.complete(issued.media.id, "anna")))
    await calls(gate).reached.wait()
    await gate.verbs.delete(issued.media.id, "anna")
    calls(gate).let_go.set()
    assert await overtaken == "MediaNotFound"
    assert calls(gate).operations.count("upload_part_copy") == 0
    assert left_over(gate, issued.media) == []


async def stopped_before_completing(gate: World) -> Media:
    """Return a media whose lease holder copied all parts and stopped."""
    issued = await uploaded(gate)
    calls(gate).held = {"complete_multipart_upload"}
    completing = asyncio.create_task(outcome_of(gate.verbs.complete(issued.media.id, "anna")))
    await calls(gate).reached.wait()
    await gate.settlement.close()
    completing.cancel()
    return await gate.store.get(issued.media.id, None)


def named(world: World, media: Media) -> dict[str, str | None]:
    """Return the arguments that name the multipart upload of a media to boto3."""
    return {"Bucket": world.bucket.config.name, "Key": current_key(media), "UploadId": media.multipart_id}


async def test_a_multipart_upload_that_is_gone_is_replaced_by_another_attempt(
    gate: World, make_world: MakeWorld
) -> None:
    media = await stopped_before_completing(gate)
    gate.s3.abort_multipart_upload(**named(gate, media))
    other = make_world(Gate, **LIMITS)
    playback = await other.verbs.complete(media.id, "anna")
    assert (playback.media.attempt, calls(other).operations.count("upload_part_copy")) == (2, COUNT)
    assert await other.ready_bytes(media.id) == FILE


async def test_an_object_that_another_lease_holder_completes_meanwhile_is_taken(
    gate: World, make_world: MakeWorld
) -> None:
    media = await stopped_before_completing(gate)
    other = make_world(Gate, **LIMITS)
    calls(other).held = {"list_parts"}
    continuing = asyncio.create_task(other.verbs.complete(media.id, "anna"))
    await calls(other).reached.wait()
    copied = gate.s3.list_parts(**named(gate, media))["Parts"]
    parts = [{"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for part in copied]
    gate.s3.complete_multipart_upload(**named(gate, media), MultipartUpload={"Parts": parts})
    calls(other).let_go.set()
    ready = (await continuing).media
    assert (ready.state, ready.attempt) == (State.READY, 1)
    assert not {"upload_part_copy", "complete_multipart_upload"} & set(calls(other).operations)
    assert await other.ready_bytes(media.id) == FILE


async def test_a_part_that_is_overwritten_before_another_process_continues_is_judged_again(
    gate: World, make_world: MakeWorld
) -> None:
    media = await stopped_before_completing(gate)
    key = part_key(media.id, 2)
    gate.s3.put_object(Bucket=gate.bucket.config.name, Key=key, Body=OTHER_PART, ContentType="video/mp4")
    other = make_world(**LIMITS)
    playback = await other.verbs.complete(media.id, "anna")
    assert (playback.media.judgements, playback.media.attempt) == (2, 2)
    assert await other.ready_bytes(media.id) == piece(FILE, 1) + OTHER_PART + piece(FILE, 3)
    await other.purged()
    assert left_over(other, media) == []


async def test_a_failed_composition_is_logged_and_continued_by_the_next_caller(
    gate: World, embedded_s3: EmbeddedS3
) -> None:
    issued = await uploaded(gate)
    embedded_s3.order_fault(Fault("CompleteMultipartUpload", status=403, code="AccessDenied"))
    with capture_logs() as logs:
        assert await outcome_of(gate.verbs.complete(issued.media.id, "anna")) == "StorageRefused"
    (line,) = [line for line in logs if line["event"] == "composition failed"]
    assert (line["log_level"], "AccessDenied" in line["reason"]) == ("warning", True)
    assert (await gate.verbs.complete(issued.media.id, "anna")).media.attempt == 1
    assert calls(gate).operations.count("upload_part_copy") == COUNT
    assert await gate.ready_bytes(issued.media.id) == FILE


class Defective(Gate):
    """A bucket whose first copy raises an unexpected error."""

    async def _call(self, operation: str, method: str, key: str = "", **options: Any) -> Answer:
        if operation == "upload_part_copy" and operation not in self.operations:
            self.operations.append(operation)
            raise ZeroDivisionError
        return await super()._call(operation, method, key, **options)


async def test_a_defect_in_a_composition_reaches_the_caller_that_waits_and_is_over_with_the_next_one(
    make_world: MakeWorld,
) -> None:
    world = make_world(Defective, **LIMITS)
    issued = await uploaded(world)
    with pytest.raises(ZeroDivisionError):
        await world.verbs.complete(issued.media.id, "anna")
    assert (await world.verbs.complete(issued.media.id, "anna")).media.state is State.READY
