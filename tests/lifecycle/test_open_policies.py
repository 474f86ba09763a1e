"""An open policy counts against the quota of its owner until it can no longer bring an object."""

from typing import Any

import pytest

from broker.domain.access.quota import Usage
from broker.domain.keys import staging_key
from broker.domain.media import State
from broker.errors import QuotaExceeded, UploadExpired, UploadRejected
from broker.lifecycle.due import SLOWEST_UPLOAD
from broker.lifecycle.leases import LEASE
from tests.support.world import OTHER, OVER, VIDEO, MakeWorld, World

PROMISED = Usage(pending_count=1, promised_bytes=len(VIDEO), media_count=1)
STORED = Usage(stored_bytes=len(VIDEO), media_count=1)


@pytest.fixture
def world_url(database_url: str) -> str:
    """Run each test of this module on both databases."""
    return database_url


def stored_bytes(world: World) -> int:
    listing = world.s3.list_objects_v2(Bucket=world.bucket.config.name)
    return sum(entry["Size"] for entry in listing.get("Contents", ()))


async def test_a_quota_of_one_media_is_not_bypassed_by_deleting_and_replaying(make_world: MakeWorld) -> None:
    world = make_world(media_count=1, stored_bytes=len(VIDEO))
    issued = []
    refused = 0
    for _ in range(25):
        try:
            issued.append(await world.issue())
        except QuotaExceeded:
            refused += 1
        else:
            await world.verbs.delete(issued[-1].media.id, "anna")
    for each in issued:
        world.post(each)
    assert (len(issued), refused) == (1, 24)
    assert stored_bytes(world) <= len(VIDEO)
    assert await world.store.usage("anna") == PROMISED
    await world.sweep_after(**OVER)
    assert stored_bytes(world) == 0
    assert await world.store.usage("anna") == Usage()
    await world.issue()


async def test_a_ready_media_that_is_deleted_counts_until_its_policy_has_ended(world: World) -> None:
    issued = await world.uploaded()
    await world.verbs.complete(issued.media.id, "anna")
    assert await world.store.usage("anna") == STORED
    await world.verbs.delete(issued.media.id, "anna")
    assert await world.store.usage("anna") == PROMISED
    await world.sweep_after(**OVER)
    assert await world.store.usage("anna") == Usage()


async def test_a_ready_media_whose_policy_has_ended_counts_no_more_once_it_is_deleted(world: World) -> None:
    issued = await world.uploaded()
    await world.verbs.complete(issued.media.id, "anna")
    await world.sweep_after(**OVER)
    await world.verbs.delete(issued.media.id, "anna")
    assert await world.store.usage("anna") == Usage()
    await world.sweep_after(**OVER)
    assert await world.state(issued.media.id) == State.DELETED
    assert await world.store.usage("anna") == Usage()


async def test_a_rejected_media_counts_until_its_policy_has_ended_or_it_is_deleted_after_that(world: World) -> None:
    media = [(await world.issue()).media for _ in range(2)]
    for each in media:
        world.s3.put_object(
            Bucket=world.bucket.config.name, Key=staging_key(each.id), Body=VIDEO, ContentType="text/html"
        )
        with pytest.raises(UploadRejected):
            await world.verbs.complete(each.id, "anna")
    await world.verbs.delete(media[0].id, "anna")
    assert await world.store.usage("anna") == PROMISED + PROMISED
    await world.sweep_after(**OVER)
    assert await world.store.usage("anna") == Usage()
    await world.verbs.delete(media[1].id, "anna")
    assert await world.store.usage("anna") == Usage()


async def test_no_sweep_before_the_end_of_the_policy_frees_the_quota_of_a_rejected_media(world: World) -> None:
    media = (await world.issue()).media
    world.s3.put_object(Bucket=world.bucket.config.name, Key=staging_key(media.id), Body=VIDEO, ContentType="text/html")
    with pytest.raises(UploadRejected):
        await world.verbs.complete(media.id, "anna")
    await world.sweep_after(seconds=LEASE.total_seconds() + 1)
    assert await world.store.usage("anna") == PROMISED
    await world.sweep_after(**OVER)
    assert await world.store.usage("anna") == Usage()


async def test_a_replay_is_purged_once_its_policy_has_ended_however_early_the_sweep_came_before(world: World) -> None:
    issued = await world.uploaded()
    await world.verbs.complete(issued.media.id, "anna")
    await world.sweep_after(seconds=LEASE.total_seconds() + 1)
    assert world.post(issued, OTHER).status_code == 201
    await world.sweep_after(**OVER)
    assert world.staged_bytes(issued.media) is None
    assert world.final_bytes(issued.media) == VIDEO


async def put_late(world: World, media: Any, body: bytes = VIDEO, content_type: str = "video/mp4") -> None:
    """Store an object as an upload does that began in time."""
    world.s3.put_object(Bucket=world.bucket.config.name, Key=staging_key(media.id), Body=body, ContentType=content_type)


async def expired(world: World) -> Any:
    media = (await world.issue()).media
    await world.sweep_after(**OVER)
    assert await world.state(media.id) == State.EXPIRED
    assert await world.store.usage("anna") == Usage()
    return media


async def test_an_upload_that_arrives_after_the_expiry_is_completed_and_counts_again(world: World) -> None:
    media = await expired(world)
    with pytest.raises(UploadExpired):
        await world.verbs.complete(media.id, "anna")
    await put_late(world, media)
    assert (await world.verbs.complete(media.id, "anna")).media.state is State.READY
    assert await world.store.usage("anna") == STORED
    assert world.final_bytes(media) == VIDEO
    await world.purged()
    assert world.staged_bytes(media) is None


async def test_the_last_look_of_the_sweep_completes_a_late_upload(world: World) -> None:
    media = await expired(world)
    await put_late(world, media)
    await world.sweep_after(seconds=SLOWEST_UPLOAD.total_seconds())
    assert await world.state(media.id) == State.READY
    assert world.final_bytes(media) == VIDEO
    assert await world.store.usage("anna") == STORED


@pytest.mark.parametrize(("body", "content_type"), [(VIDEO, "text/html"), (OTHER[:-1], "video/mp4")])
async def test_a_late_upload_that_differs_stays_expired_and_is_removed(
    world: World, body: bytes, content_type: str
) -> None:
    media = await expired(world)
    await put_late(world, media, body, content_type)
    with pytest.raises(UploadExpired):
        await world.verbs.complete(media.id, "anna")
    await world.sweep_after(seconds=SLOWEST_UPLOAD.total_seconds())
    assert await world.state(media.id) == State.EXPIRED
    assert stored_bytes(world) == 0
    assert await world.store.usage("anna") == Usage()
