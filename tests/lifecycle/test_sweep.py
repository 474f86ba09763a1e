"""The sweep: a media that fails does not delay the others."""

import asyncio

import pytest

from broker.aws.bucket import Bucket
from broker.dev.s3 import EmbeddedS3, Fault
from broker.domain.keys import staging_key
from broker.domain.media import Arrived, State
from broker.errors import StorageRefused, StorageUnavailable, UploadRejected
from broker.lifecycle.due import SLOWEST_UPLOAD
from broker.worker.sweep import Sweep
from tests.support.world import LATER, OVER, MakeWorld, World

REFUSED = Fault(operation="HeadObject", status=403, code="AccessDenied", count=1)
AWAY = Fault(operation="HeadObject", status=503, code="SlowDown", count=3)


@pytest.mark.parametrize("fault", [AWAY, REFUSED], ids=["away", "refused"])
async def test_a_media_that_s3_fails_on_does_not_delay_the_others(
    world: World, embedded_s3: EmbeddedS3, fault: Fault
) -> None:
    media = [(await world.uploaded()).media for _ in range(3)]
    embedded_s3.order_fault(
        Fault(fault.operation, fault.count, fault.code, fault.status, key_prefix=staging_key(media[1].id))
    )
    world.clock.move(**OVER)
    assert await world.sweep.once() == 2
    assert [await world.state(one.id) for one in media] == [State.READY, State.PENDING, State.READY]
    await world.sweep_after(**LATER)
    assert await world.state(media[1].id) == State.READY


async def test_an_s3_that_is_unavailable_for_every_media_pauses_the_sweep(
    world: World, embedded_s3: EmbeddedS3
) -> None:
    media = [(await world.uploaded()).media for _ in range(2)]
    embedded_s3.order_fault(Fault(operation="*", status=503, code="SlowDown", count=100))
    world.clock.move(**OVER)
    with pytest.raises(StorageUnavailable):
        await world.sweep.once()
    embedded_s3.clear_faults()
    await world.sweep_after(**LATER)
    assert [await world.state(one.id) for one in media] == [State.READY, State.READY]


class FailsOnce(Bucket):
    """A bucket whose first HEAD raises an unexpected error."""

    failed = False

    async def head(self, key: str) -> Arrived | None:
        if not self.failed:
            self.failed = True
            raise ZeroDivisionError
        return await super().head(key)


async def test_an_unexpected_error_of_one_media_does_not_end_the_sweep(make_world: MakeWorld) -> None:
    world = make_world(FailsOnce)
    media = [(await world.uploaded()).media for _ in range(2)]
    world.clock.move(**OVER)
    sweep = Sweep(world.store, world.settlement, rest_seconds=0.01, clock=world.clock)
    sweeping = asyncio.create_task(sweep.run())
    while State.READY not in [await world.state(one.id) for one in media]:
        await asyncio.sleep(0.02)
    world.clock.move(**LATER)
    while [await world.state(one.id) for one in media] != [State.READY, State.READY]:
        await asyncio.sleep(0.02)
    await sweep.stop()
    await sweeping


async def test_a_rejected_object_that_s3_would_not_remove_is_removed_later(
    world: World, embedded_s3: EmbeddedS3
) -> None:
    issued = await world.issue()
    key = staging_key(issued.media.id)
    world.s3.put_object(Bucket=world.bucket.config.name, Key=key, Body=b"<html>", ContentType="text/html")
    embedded_s3.order_fault(Fault(operation="DeleteObjects", status=503, code="SlowDown", count=3))
    with pytest.raises(UploadRejected):
        await world.verbs.complete(issued.media.id, "anna")
    assert world.staged_bytes(issued.media) == b"<html>"
    await world.sweep_after(**OVER)
    assert world.staged_bytes(issued.media) is None
    assert await world.state(issued.media.id) == State.REJECTED


async def test_a_missing_bucket_expires_no_media(world: World) -> None:
    media = (await world.issue()).media
    world.s3.delete_bucket(Bucket=world.bucket.config.name)
    with pytest.raises(StorageRefused, match="NoSuchBucket"):
        await world.verbs.complete(media.id, "anna")
    await world.sweep_after(**OVER)
    assert await world.state(media.id) == State.PENDING


async def test_an_upload_that_differs_and_took_longer_than_the_grace_is_removed(world: World) -> None:
    issued = await world.issue()
    await world.sweep_after(**OVER)
    assert await world.state(issued.media.id) == State.EXPIRED
    key = staging_key(issued.media.id)
    world.s3.put_object(Bucket=world.bucket.config.name, Key=key, Body=b"late", ContentType="video/mp4")
    await world.sweep_after(seconds=SLOWEST_UPLOAD.total_seconds())
    assert world.staged_bytes(issued.media) is None
    assert (await world.store.get(issued.media.id, None)).due_at is None
