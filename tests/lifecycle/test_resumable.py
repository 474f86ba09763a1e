"""Resumable uploads: parts by policies of their own, composed into the object that was promised."""

import hashlib
from contextlib import suppress
from datetime import timedelta

import pytest

from broker.domain.access.quota import Usage
from broker.domain.keys import part_key
from broker.domain.media import State
from broker.domain.parts import composed_etag
from broker.errors import (
    MediaNotFound,
    NotResumable,
    PartsMissing,
    QuotaExceeded,
    RequestInvalid,
    UploadExpired,
    UploadRejected,
)
from broker.lifecycle.leases import LEASE
from broker.lifecycle.requests import Issued, UploadRequest
from broker.lifecycle.resumable import settlement
from tests.support.gates import Gate
from tests.support.in_parts import COUNT, DAY, FILE, PART, issue, left_over, page_of, parts, piece, post_parts, uploaded
from tests.support.world import GRACE_SECONDS, POLICY_SECONDS, MakeWorld, World, overtaken


@pytest.fixture
def world_url(database_url: str) -> str:
    return database_url


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world(max_size=100_000_000, part_size=PART)


async def test_parts_in_any_order_become_one_object(world: World) -> None:
    issued = await issue(world)
    post_parts(page_of(issued), numbers=[3, 1, 2])
    playback = await world.verbs.complete(issued.media.id, "anna")
    media = playback.media
    assert (media.state, media.size, media.attempt) == (State.READY, len(FILE), 1)
    assert await world.ready_bytes(media.id) == FILE
    digests = [hashlib.md5(piece(FILE, n), usedforsecurity=False).hexdigest() for n in range(1, COUNT + 1)]
    assert media.etag == composed_etag(digests)
    assert media.checksum is not None
    assert media.checksum.startswith("CRC64NVME:")
    await world.purged()
    assert left_over(world, media) == []


async def test_a_client_that_knows_the_id_alone_goes_on(world: World) -> None:
    issued = await issue(world)
    post_parts(page_of(issued), numbers=[2])
    page = await parts(world, issued.media)
    assert (page.arrived, [form.number for form in page.forms], page.next_from) == ([2], [1, 3], None)
    post_parts(page)
    assert (await parts(world, issued.media)).arrived == [1, 2, 3]
    assert (await world.verbs.complete(issued.media.id, "anna")).media.state is State.READY


async def test_missing_parts_are_named(world: World) -> None:
    issued = await issue(world)
    post_parts(page_of(issued), numbers=[2])
    with pytest.raises(PartsMissing, match=r"2 of 3 parts have not arrived \(1, 3\)") as refused:
        await world.verbs.complete(issued.media.id, "anna")
    assert refused.value.facts["missing"] == [1, 3]
    assert await world.state(issued.media.id) == "pending"


async def test_the_parts_come_in_pages(world: World) -> None:
    issued = await issue(world)
    post_parts(page_of(issued), numbers=[1, 3])
    page = await parts(world, issued.media, limit=2)
    assert (page.arrived, [form.number for form in page.forms], page.next_from) == ([1], [2], 3)
    page = await parts(world, issued.media, first=3, limit=2)
    assert (page.arrived, page.forms, page.next_from) == ([3], [], None)
    page = await parts(world, issued.media, first=4)
    assert (page.arrived, page.forms, page.next_from) == ([], [], None)
    assert (await parts(world, issued.media, max_forms=0)).forms == []
    post_parts(page_of(issued), numbers=[2])
    assert (await parts(world, issued.media, first=3, limit=1)).arrived == [3]


async def test_a_ready_media_tells_that_all_parts_arrived(world: World) -> None:
    issued = await issue(world)
    post_parts(page_of(issued))
    await world.verbs.complete(issued.media.id, "anna")
    page = await parts(world, issued.media)
    assert (page.media.state, page.arrived, page.forms) == (State.READY, [1, 2, 3], [])


async def test_the_same_key_gets_the_same_media_and_its_missing_parts(world: World) -> None:
    async def ask() -> Issued:
        request = UploadRequest(content_type="video/mp4", size=len(FILE), resumable=True)
        return await world.verbs.issue(request, "anna", idempotency_key="k")

    first = await ask()
    post_parts(page_of(first), numbers=[1, 2])
    again = await ask()
    assert again.media.id == first.media.id
    assert [form.number for form in page_of(again).forms] == [3]
    post_parts(page_of(again))
    await world.verbs.complete(first.media.id, "anna")
    assert (await ask()).parts is None


async def test_forms_are_renewed_until_the_upload_expires(world: World) -> None:
    issued = await issue(world)
    expires_at = issued.media.upload_expires_at
    assert expires_at is not None
    for _ in range(3):
        world.clock.move(seconds=POLICY_SECONDS)
        page = await parts(world, issued.media)
        assert page.expires_in == POLICY_SECONDS
        assert page.media.policy_expires_at >= page.expires_at
    world.clock.move(seconds=DAY - 3 * POLICY_SECONDS - 10)
    page = await parts(world, issued.media)
    assert page.expires_at <= expires_at
    assert 0 < page.expires_in <= 10
    world.clock.move(seconds=11)
    with pytest.raises(UploadExpired):
        await parts(world, issued.media)


async def test_a_renewal_of_forms_that_loses_a_race_reads_the_row_again(world: World) -> None:
    issued = await issue(world)
    world.clock.move(seconds=POLICY_SECONDS + 5)
    with overtaken(world.store, filename="renamed.mp4"):
        page = await parts(world, issued.media)
    assert (page.expires_in, page.media.filename, page.media.version) == (POLICY_SECONDS, "renamed.mp4", 2)
    assert page.media.policy_expires_at >= page.expires_at
    assert page.media.due_at == page.media.policy_expires_at + timedelta(seconds=GRACE_SECONDS)


async def test_a_media_that_is_deleted_during_the_renewal_of_its_forms_gets_none(world: World) -> None:
    media = (await issue(world)).media
    world.clock.move(seconds=POLICY_SECONDS + 5)
    await world.verbs.delete(media.id, "anna")
    now = world.clock()
    with pytest.raises(MediaNotFound):
        await world.verbs._parts.page(media, await world.bucket.credentials(now), now, first=1, limit=9, max_forms=9)


async def test_a_resumable_upload_without_parts_expires_with_its_last_policy(world: World) -> None:
    issued = await issue(world)
    await world.sweep_after(seconds=2 * POLICY_SECONDS + GRACE_SECONDS + 1)
    assert await world.state(issued.media.id) == "pending"
    await world.sweep_after(seconds=DAY)
    assert await world.state(issued.media.id) == "expired"


async def test_parts_without_a_complete_are_composed_by_the_sweep(world: World) -> None:
    issued = await issue(world)
    post_parts(page_of(issued))
    await world.sweep_after(seconds=2 * POLICY_SECONDS + GRACE_SECONDS + 1)
    assert await world.state(issued.media.id) == "ready"
    assert await world.ready_bytes(issued.media.id) == FILE


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"size": None, "resumable": True}, "body.size"),
        ({"resumable": True, "checksum_sha256": "x" * 44}, "body.checksum_sha256"),
        ({"resumable": True, "redirect_url": "https://app.example/done"}, "body.redirect_url"),
        ({"checksum_crc64nvme": "AAAAAAAAAAA="}, "body.checksum_crc64nvme"),
    ],
)
async def test_what_parts_cannot_keep_is_refused(world: World, asked: dict[str, object], field: str) -> None:
    with pytest.raises(RequestInvalid, match=field):
        await world.issue(**asked)  # type: ignore[arg-type]


async def test_a_single_form_has_no_parts(world: World) -> None:
    issued = await world.issue()
    with pytest.raises(NotResumable):
        await parts(world, issued.media)


async def test_a_promised_crc_is_checked_against_the_composed_object(world: World) -> None:
    first = await uploaded(world)
    known = (await world.verbs.complete(first.media.id, "anna")).media.checksum
    assert known is not None
    issued = await uploaded(world, checksum_crc64nvme=known.removeprefix("CRC64NVME:"))
    assert (await world.verbs.complete(issued.media.id, "anna")).media.checksum == known

    wrong = await uploaded(world, FILE[::-1], checksum_crc64nvme=known.removeprefix("CRC64NVME:"))
    for _ in range(2):
        with pytest.raises(UploadRejected) as rejected:
            await world.verbs.complete(wrong.media.id, "anna")
        assert rejected.value.facts["differences"] == "the CRC64NVME checksum is not the promised one"
    await world.purged()
    assert left_over(world, wrong.media) == []
    assert world.final_bytes(wrong.media) is None


async def test_a_part_of_another_size_that_a_lax_store_took_is_rejected(world: World) -> None:
    issued = await uploaded(world)
    world.s3.put_object(Bucket=world.bucket.config.name, Key=part_key(issued.media.id, 2), Body=b"short")
    page = await parts(world, issued.media)
    assert (page.arrived, [form.number for form in page.forms]) == ([1, 3], [2])
    with pytest.raises(UploadRejected) as rejected:
        await world.verbs.complete(issued.media.id, "anna")
    assert rejected.value.facts["differences"] == f"part 2 has 5 bytes, not {PART}"
    with pytest.raises(UploadRejected):
        await parts(world, issued.media)


@pytest.mark.parametrize("versioned", [False, True])
async def test_parts_that_a_replayed_policy_brings_back_are_purged(world: World, *, versioned: bool) -> None:
    if versioned:
        status = {"Status": "Enabled"}
        world.s3.put_bucket_versioning(Bucket=world.bucket.config.name, VersioningConfiguration=status)
    issued = await uploaded(world)
    await world.verbs.complete(issued.media.id, "anna")
    await world.purged()
    assert left_over(world, issued.media) == []
    post_parts(page_of(issued), FILE[::-1])
    await world.sweep_after(seconds=2 * POLICY_SECONDS + GRACE_SECONDS + 1)
    assert left_over(world, issued.media) == []
    assert await world.ready_bytes(issued.media.id) == FILE


async def test_a_promised_upload_counts_until_its_last_policy_has_expired(make_world: MakeWorld) -> None:
    world = make_world(max_size=100_000_000, part_size=PART, promised_bytes=len(FILE))
    issued = await uploaded(world)
    promised = Usage(pending_count=1, promised_bytes=len(FILE), media_count=1)
    assert await world.store.usage("anna") == promised
    with pytest.raises(QuotaExceeded):
        await issue(world)
    await world.verbs.delete(issued.media.id, "anna")
    assert left_over(world, issued.media) == []
    post_parts(page_of(issued))
    await world.sweep_after(seconds=LEASE.total_seconds() + 1)
    assert await world.store.usage("anna") == promised
    assert left_over(world, issued.media) == []
    post_parts(page_of(issued), numbers=[3])
    await world.sweep_after(seconds=2 * POLICY_SECONDS + GRACE_SECONDS + 1)
    assert await world.store.usage("anna") == Usage()
    assert left_over(world, issued.media) == []
    with pytest.raises(MediaNotFound):
        await parts(world, issued.media)


async def test_parts_that_arrive_after_the_upload_has_expired_are_completed(world: World) -> None:
    issued = await issue(world)
    await world.sweep_after(seconds=DAY + GRACE_SECONDS + 1)
    assert await world.state(issued.media.id) == "expired"
    post_parts(page_of(issued), numbers=[1, 2])
    with pytest.raises(UploadExpired):
        await world.verbs.complete(issued.media.id, "anna")
    post_parts(page_of(issued), numbers=[3])
    assert (await world.verbs.complete(issued.media.id, "anna")).media.state is State.READY
    assert await world.ready_bytes(issued.media.id) == FILE


async def test_an_event_of_a_part_asks_little_while_another_one_is_missing(make_world: MakeWorld) -> None:
    world = make_world(Gate, max_size=100_000_000, part_size=PART)
    assert isinstance(world.bucket, Gate)
    issued = await issue(world)

    async def hear(number: int) -> list[str]:
        post_parts(page_of(issued), numbers=[number])
        world.bucket.operations.clear()  # type: ignore[attr-defined]
        with suppress(PartsMissing):
            await world.verbs.confirm(issued.media.id, None, part=number)
        return list(world.bucket.operations)  # type: ignore[attr-defined]

    assert await hear(1) == ["list_objects_v2"]
    assert await hear(2) == ["head_object", "head_bucket"]
    assert (await hear(3))[0] == "list_objects_v2"
    assert await world.state(issued.media.id) == "ready"


async def test_a_replica_that_remembers_an_arrived_part_as_missing_looks_again(
    world: World, make_world: MakeWorld
) -> None:
    other = make_world(max_size=100_000_000, part_size=PART)
    issued = await issue(world)
    post_parts(page_of(issued), numbers=[1])
    with pytest.raises(PartsMissing):
        await world.verbs.confirm(issued.media.id, None, part=1)
    post_parts(page_of(issued), numbers=[3])
    with pytest.raises(PartsMissing):
        await other.verbs.confirm(issued.media.id, None, part=3)
    post_parts(page_of(issued), numbers=[2])
    await world.verbs.confirm(issued.media.id, None, part=2)
    assert await world.state(issued.media.id) == "ready"


async def test_a_part_beyond_the_last_one_is_no_part_of_the_upload(world: World) -> None:
    issued = await uploaded(world)
    world.s3.put_object(Bucket=world.bucket.config.name, Key=part_key(issued.media.id, COUNT + 1), Body=b"more")
    await world.verbs.complete(issued.media.id, "anna")
    assert await world.ready_bytes(issued.media.id) == FILE
    await world.purged()
    assert left_over(world, issued.media) == []


async def test_a_problem_names_a_hundred_of_many_missing_parts(make_world: MakeWorld) -> None:
    world = make_world(max_size=1000 * PART, part_size=PART)
    issued = await world.issue(size=150 * PART, resumable=True)
    with pytest.raises(PartsMissing, match=r"150 of 150 parts have not arrived \(1-150\)") as refused:
        await world.verbs.complete(issued.media.id, "anna")
    assert refused.value.facts["missing"] == list(range(1, 101))
    assert (refused.value.facts["missing_count"], refused.value.facts["count"]) == (150, 150)


async def test_the_missing_parts_of_the_latest_media_are_remembered(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlement, "MAX_REMEMBERED", 2)
    world = make_world(Gate, max_size=100_000_000, part_size=PART)
    assert isinstance(world.bucket, Gate)
    issued = [await issue(world) for _ in range(3)]

    async def looks(number: int, part: int | None) -> list[str]:
        world.bucket.operations.clear()  # type: ignore[attr-defined]
        with pytest.raises(PartsMissing) as missing:
            await world.verbs.confirm(issued[number].media.id, None, part=part)
        assert missing.value.facts["count"] == COUNT
        return list(world.bucket.operations)  # type: ignore[attr-defined]

    listed, looked = ["list_objects_v2"], ["head_object", "head_bucket"]
    assert [await looks(number, 1) for number in (0, 1)] == [listed, listed]
    assert await looks(0, None) == listed  # a client asks, and the first media is the latest again
    assert await looks(2, 1) == listed
    assert [await looks(number, 1) for number in (0, 2, 1)] == [looked, looked, listed]
    assert await looks(1, COUNT) == listed  # the part that was missing has arrived, says the event
