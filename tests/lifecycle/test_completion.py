"""Completion: a client's request is a hint; the object in S3 decides."""

import asyncio
import hashlib
from base64 import b64encode
from typing import Any

import httpx
import pytest

from broker.api.problems import problem_response
from broker.aws.bucket import Bucket
from broker.aws.client import Answer
from broker.dev.s3 import EmbeddedS3, Fault
from broker.domain.keys import final_key, staging_key
from broker.domain.media import Arrived, State
from broker.errors import MediaNotFound, NothingUploaded, NotReady, StorageUnavailable, UploadExpired, UploadRejected
from tests.support import overwriter
from tests.support.overwriter import OverwrittenBetween
from tests.support.world import LATER, OTHER, OVER, VIDEO, MakeWorld, World, outcome_of


async def test_an_upload_is_checked_promoted_and_played(world: World) -> None:
    issued = await world.uploaded()
    playback = await world.verbs.complete(issued.media.id, "anna")
    assert playback.media.state is State.READY
    assert playback.media.size == len(VIDEO)
    assert playback.media.etag == hashlib.md5(VIDEO, usedforsecurity=False).hexdigest()
    part = httpx.get(playback.signed_url, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, VIDEO[10:20])
    assert part.headers["content-type"] == "video/mp4"
    await world.purged()
    assert world.staged_bytes(issued.media) is None


async def test_a_complete_without_an_upload_may_be_repeated(world: World) -> None:
    issued = await world.issue()
    with pytest.raises(NothingUploaded):
        await world.verbs.complete(issued.media.id, "anna")
    world.post(issued)
    assert (await world.verbs.complete(issued.media.id, "anna")).media.state is State.READY


async def test_a_second_complete_gets_the_same_answer(world: World) -> None:
    issued = await world.uploaded()
    first = await world.verbs.complete(issued.media.id, "anna")
    again = await world.verbs.complete(issued.media.id, "anna")
    assert again.media == first.media


async def test_a_promised_checksum_is_kept_and_another_file_is_refused_by_s3(world: World) -> None:
    digest = b64encode(hashlib.sha256(VIDEO).digest()).decode()
    issued = await world.issue(checksum_sha256=digest)
    assert world.post(issued, OTHER).status_code == 400
    assert world.post(issued).status_code == 201
    playback = await world.verbs.complete(issued.media.id, "anna")
    assert playback.media.checksum == f"SHA256:{digest}"


@pytest.mark.parametrize(
    ("put", "difference"),
    [
        ({"Body": VIDEO, "ContentType": "text/html"}, "the type is 'text/html', not 'video/mp4'"),
        ({"Body": VIDEO[:-1], "ContentType": "video/mp4"}, f"the size is {len(VIDEO) - 1} bytes, not {len(VIDEO)}"),
        ({"Body": b"", "ContentType": "video/mp4"}, f"the size is 0 bytes, not {len(VIDEO)}"),
    ],
)
async def test_an_upload_that_a_lax_store_accepted_is_rejected_and_purged(
    world: World, put: dict[str, Any], difference: str
) -> None:
    issued = await world.issue()
    world.s3.put_object(Bucket=world.bucket.config.name, Key=staging_key(issued.media.id), **put)
    for _ in range(2):
        with pytest.raises(UploadRejected, match="not what was promised") as rejected:
            await world.verbs.complete(issued.media.id, "anna")
        assert rejected.value.facts["differences"] == difference
    await world.purged()
    assert world.staged_bytes(issued.media) is None
    assert world.final_bytes(issued.media) is None


async def test_a_promised_checksum_that_the_store_did_not_keep_is_rejected(world: World) -> None:
    issued = await world.issue(checksum_sha256=b64encode(hashlib.sha256(VIDEO).digest()).decode())
    key = staging_key(issued.media.id)
    world.s3.put_object(Bucket=world.bucket.config.name, Key=key, Body=VIDEO, ContentType="video/mp4")
    with pytest.raises(UploadRejected):
        await world.verbs.complete(issued.media.id, "anna")


class IgnoresConditions(OverwrittenBetween):
    """The same on a store that ignores the conditions of a copy, as some do."""

    async def _call(self, operation: str, method: str, key: str = "", **options: Any) -> Answer:
        if operation == "copy_object":
            for ignored in ("x-amz-copy-source-if-match", "if-none-match"):
                del options["headers"][ignored]
        return await super()._call(operation, method, key, **options)


@pytest.mark.parametrize("bucket_class", [OverwrittenBetween, IgnoresConditions])
async def test_an_upload_that_was_overwritten_after_the_check_is_judged_again(
    make_world: MakeWorld, bucket_class: type[Bucket]
) -> None:
    world = make_world(bucket_class)
    issued = await world.uploaded()
    playback = await world.verbs.complete(issued.media.id, "anna")
    assert playback.media.etag == hashlib.md5(OTHER, usedforsecurity=False).hexdigest()
    await world.purged()
    assert world.final_bytes(issued.media) == OTHER
    assert playback.media.judgements == 2


@pytest.mark.parametrize("bucket_class", [OverwrittenBetween, IgnoresConditions])
async def test_an_upload_that_is_overwritten_repeatedly_is_rejected(
    make_world: MakeWorld, bucket_class: type[Bucket]
) -> None:
    world = make_world(bucket_class)
    world.bucket.times = 11  # type: ignore[attr-defined]
    issued = await world.uploaded()
    with pytest.raises(UploadRejected) as rejected:
        await world.verbs.complete(issued.media.id, "anna")
    assert rejected.value.facts["differences"] == "it was overwritten while it was being checked"
    await world.purged()
    assert world.final_bytes(issued.media) is None


async def test_a_replay_after_ready_changes_nothing_and_is_purged(world: World) -> None:
    issued = await world.uploaded()
    await world.verbs.complete(issued.media.id, "anna")
    assert world.post(issued, OTHER).status_code == 201
    assert (await world.verbs.complete(issued.media.id, "anna")).media.state is State.READY
    assert world.final_bytes(issued.media) == VIDEO
    await world.sweep_after(**OVER)
    assert world.staged_bytes(issued.media) is None
    assert world.final_bytes(issued.media) == VIDEO


async def test_a_replay_after_deletion_is_purged_before_the_tombstone(world: World) -> None:
    issued = await world.uploaded()
    await world.verbs.complete(issued.media.id, "anna")
    await world.verbs.delete(issued.media.id, "anna")
    await world.purged()
    assert world.final_bytes(issued.media) is None
    assert world.post(issued, OTHER).status_code == 201
    with pytest.raises(MediaNotFound):
        await world.verbs.complete(issued.media.id, "anna")
    await world.sweep_after(minutes=3)
    assert await world.state(issued.media.id) == State.DELETING
    await world.sweep_after(**OVER)
    assert world.staged_bytes(issued.media) is None
    assert await world.state(issued.media.id) == State.DELETED


async def test_concurrent_completes_make_one_copy(make_world: MakeWorld) -> None:
    worlds = [make_world(), make_world()]
    issued = await worlds[0].uploaded()
    copies = []

    class Counting(Bucket):
        async def promote(self, source: str, target: str, judged: Arrived) -> bool:
            copies.append(target)
            await asyncio.sleep(0.2)
            return await super().promote(source, target, judged)

    worlds = [make_world(Counting), make_world(Counting)]
    ends = await asyncio.gather(*(outcome_of(world.verbs.complete(issued.media.id, "anna")) for world in worlds * 5))
    assert set(ends) == {"ready"}
    assert len(copies) == 1


async def test_a_deletion_while_the_promotion_runs_leaves_no_object(make_world: MakeWorld) -> None:
    deleted = asyncio.Event()

    class Slow(Bucket):
        async def promote(self, source: str, target: str, judged: Arrived) -> bool:
            await deleted.wait()
            await asyncio.to_thread(overwriter.puts, self.config, source, VIDEO)
            return await super().promote(source, target, judged)

    world = make_world(Slow)
    issued = await world.uploaded()
    completing = asyncio.create_task(outcome_of(world.verbs.complete(issued.media.id, "anna")))
    while await world.state(issued.media.id) != State.PROMOTING:
        await asyncio.sleep(0.01)
    await world.verbs.delete(issued.media.id, "anna")
    deleted.set()
    assert await completing == "MediaNotFound"
    await world.purged()
    assert world.final_bytes(issued.media) is None
    assert world.staged_bytes(issued.media) is None


async def test_a_media_without_an_upload_expires(world: World) -> None:
    issued = await world.issue()
    await world.sweep_after(**OVER)
    with pytest.raises(UploadExpired):
        await world.verbs.complete(issued.media.id, "anna")
    assert (await world.store.usage("anna")).pending_count == 0


async def test_a_link_that_is_requested_too_early_may_be_retried_and_one_too_late_may_not(world: World) -> None:
    media_id = (await world.issue()).media.id
    with pytest.raises(NotReady) as early:
        await world.verbs.playback(media_id, "anna", expires_in=60, download=False)
    await world.sweep_after(**OVER)
    with pytest.raises(NotReady) as late:
        await world.verbs.playback(media_id, "anna", expires_in=60, download=False)
    answers = [problem_response(refused.value) for refused in (early, late)]
    assert [answer.headers.get("Retry-After") for answer in answers] == ["2", None]


async def test_an_unannounced_upload_is_completed_by_the_sweep(world: World) -> None:
    issued = await world.uploaded()
    await world.sweep_after(**OVER)
    assert await world.state(issued.media.id) == State.READY
    assert world.final_bytes(issued.media) == VIDEO
    await world.sweep_after(**LATER)
    assert world.staged_bytes(issued.media) is None


@pytest.mark.parametrize(
    "fault",
    [
        Fault(operation="HeadObject", status=503, code="SlowDown", count=3),
        Fault(operation="CopyObject", status=500, code="InternalError", count=3),
        Fault(operation="CopyObject", status=200, code="InternalError", count=3),
        Fault(operation="CopyObject", reset=True, count=6),  # aiohttp repeats each attempt once
    ],
    ids=str,
)
async def test_an_unavailable_s3_changes_no_state(world: World, embedded_s3: EmbeddedS3, fault: Fault) -> None:
    issued = await world.uploaded()
    embedded_s3.order_fault(fault)
    with pytest.raises(StorageUnavailable):
        await world.verbs.complete(issued.media.id, "anna")
    embedded_s3.clear_faults()
    assert (await world.verbs.complete(issued.media.id, "anna")).media.state is State.READY
    assert world.final_bytes(issued.media) == VIDEO


async def test_a_copy_whose_answer_was_lost_is_recognized(world: World, embedded_s3: EmbeddedS3) -> None:
    issued = await world.uploaded()
    embedded_s3.order_fault(Fault(operation="CopyObject", reset=True, when="after"))
    assert (await world.verbs.complete(issued.media.id, "anna")).media.state is State.READY
    assert world.final_bytes(issued.media) == VIDEO


async def test_a_deletion_removes_all_versions(world: World) -> None:
    world.s3.put_bucket_versioning(Bucket=world.bucket.config.name, VersioningConfiguration={"Status": "Enabled"})
    issued = await world.uploaded()
    await world.verbs.complete(issued.media.id, "anna")
    await world.verbs.delete(issued.media.id, "anna")
    left = world.s3.list_object_versions(Bucket=world.bucket.config.name)
    assert not left.get("Versions")
    assert not left.get("DeleteMarkers")


async def test_a_final_object_has_the_type_and_no_metadata_of_the_client(world: World) -> None:
    issued = await world.issue()
    world.s3.put_object(
        Bucket=world.bucket.config.name,
        Key=staging_key(issued.media.id),
        Body=VIDEO,
        ContentType="video/mp4",
        ContentDisposition="inline; filename=evil.html",
        Metadata={"owner": "mallory"},
    )
    await world.verbs.complete(issued.media.id, "anna")
    key = final_key(issued.media.id, "video/mp4", 1)
    final = world.s3.head_object(Bucket=world.bucket.config.name, Key=key)
    assert final["ContentType"] == "video/mp4"
    assert final["Metadata"] == {}
    assert "ContentDisposition" not in final
