"""Resumable uploads: parts by policies of their own, composed into the object that was promised."""

import hashlib
from typing import Any

import pytest

from broker.domain.keys import final_prefix, parts_prefix
from broker.domain.media import Media, State
from broker.domain.parts import composed_etag
from broker.errors import NotResumable, PartsMissing, RequestInvalid, UploadExpired
from broker.lifecycle.requests import Issued, PartsPage, UploadRequest
from tests.support.in_parts import FILE, PART, piece, post_parts
from tests.support.world import GRACE_SECONDS, POLICY_SECONDS, MakeWorld, World

COUNT = 3
DAY = 86_400


@pytest.fixture
def world_url(database_url: str) -> str:
    return database_url


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world(max_size=100_000_000, part_size=PART)


async def issue(world: World, content: bytes = FILE, **asked: Any) -> Issued:
    return await world.issue(size=len(content), resumable=True, **asked)


def page_of(issued: Issued) -> PartsPage:
    assert issued.parts is not None
    return issued.parts


async def parts(world: World, media: Media, *, first: int = 1, limit: int = 100, max_forms: int = 100) -> PartsPage:
    return await world.verbs.parts(media.id, "anna", first=first, limit=limit, max_forms=max_forms)


def left_over(world: World, media: Media) -> list[str]:
    """Return the keys of staged parts and the multipart uploads that are in progress."""
    bucket = world.bucket.config.name
    listing = world.s3.list_objects_v2(Bucket=bucket, Prefix=parts_prefix(media.id))
    uploads = world.s3.list_multipart_uploads(Bucket=bucket, Prefix=final_prefix(media.id))
    keys = [entry["Key"] for entry in listing.get("Contents", ())]
    return keys + [f"{entry['Key']} {entry['UploadId']}" for entry in uploads.get("Uploads", ())]


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
