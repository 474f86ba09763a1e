"""The deliveries of each media: when, in which order, how often, and until when."""

import asyncio
from datetime import datetime, timedelta

import pytest
from structlog.testing import capture_logs

from broker.domain.announcement import PATIENCE, Announcement
from broker.domain.media import State
from broker.egress.public_network import PublicNetwork
from broker.errors import BrokerError
from broker.worker.sender import Answer, Sender
from broker.worker.webhooks import CLAIM, MAX_DELAY_SECONDS, Webhooks, delay
from tests.support.in_parts import FILE, PART, issue, uploaded
from tests.support.receiver import receiving
from tests.support.world import VIDEO, MakeWorld, World, outcome_of
from tests.worker.conftest import until
from tests.worker.sending import SECRET, sending, telling


async def test_ready_and_deleted_are_delivered_in_this_order(make_world: MakeWorld) -> None:
    async with receiving(200) as receiver:
        world = make_world(announce_to=(receiver.url,))
        issued = await world.uploaded(filename="a.mp4", metadata={"album": "7"})
        async with telling(world, receiver):
            await world.verbs.complete(issued.media.id, "anna")
            await world.verbs.delete(issued.media.id, "anna")
            await world.sweep_after(hours=2)
            await until(lambda: len(receiver.requests) == 2)
    ready, deleted = receiver.documents
    assert [ready["type"], deleted["type"]] == ["media.ready", "media.deleted"]
    assert ready["data"] | {"created_at": None, "ready_at": None} == {
        "media_id": str(issued.media.id),
        "status": "ready",
        "owner": "anna",
        "content_type": "video/mp4",
        "size": len(VIDEO),
        "filename": "a.mp4",
        "duration_seconds": None,
        "metadata": {"album": "7"},
        "created_at": None,
        "ready_at": None,
        "differences": None,
        "video": None,
    }


async def test_rejected_and_expired_are_delivered_with_the_differences(make_world: MakeWorld) -> None:
    async with receiving(200) as receiver:
        world = make_world(announce_to=(receiver.url,))
        wrong, unused = await world.issue(), await world.issue()
        world.s3.put_object(
            Bucket=world.bucket.config.name, Key=wrong.fields["key"], Body=b"x", ContentType="video/mp4"
        )
        with pytest.raises(BrokerError):
            await world.verbs.complete(wrong.media.id, "anna")
        await world.sweep_after(hours=2)
        async with telling(world, receiver):
            await until(lambda: len(receiver.requests) == 2)
    told = {document["data"]["media_id"]: document for document in receiver.documents}
    assert told[str(wrong.media.id)]["type"] == "media.rejected"
    assert told[str(wrong.media.id)]["data"]["differences"] == "the size is 1 bytes, not 4096"
    assert told[str(unused.media.id)]["type"] == "media.expired"


async def test_each_end_of_a_resumable_upload_is_delivered_once(make_world: MakeWorld) -> None:
    async with receiving(200) as receiver:
        world = make_world(announce_to=(receiver.url,), max_size=20_000_000, part_size=PART)
        ready = (await uploaded(world)).media
        wrong = (await uploaded(world, checksum_crc64nvme="AAAAAAAAAAA=")).media
        unused = (await issue(world)).media
        await world.verbs.complete(ready.id, "anna")
        assert await outcome_of(world.verbs.complete(wrong.id, "anna")) == "UploadRejected"
        await world.sweep_after(days=2)
        async with telling(world, receiver):
            await until(lambda: len(receiver.requests) == 3)
        assert await world.store.outbox.kept(10) == []
    told = {document["data"]["media_id"]: document for document in receiver.documents}
    assert {document["type"]: document["data"]["size"] for document in told.values()} == {
        "media.ready": len(FILE),
        "media.rejected": len(FILE),
        "media.expired": None,
    }
    assert told[str(ready.id)]["type"] == "media.ready"
    assert told[str(wrong.id)]["data"]["differences"] == "the CRC64NVME checksum is not the promised one"
    assert told[str(unused.id)]["type"] == "media.expired"


async def test_a_failed_webhook_comes_again_later_and_later_with_the_same_id(make_world: MakeWorld) -> None:
    async with receiving(500, "hang", 302, "hang_up", 200) as receiver:
        world = make_world(announce_to=(receiver.url,))
        issued = await world.uploaded()
        await world.verbs.complete(issued.media.id, "anna")
        async with sending(world, receiver, seconds=2) as webhooks:
            claimed = [await webhooks.once(receiver.url)]
            for attempts in range(1, 5):
                claimed.append(await webhooks.once(receiver.url))
                world.clock.move(seconds=delay(attempts, 1.0).total_seconds())
                claimed.append(await webhooks.once(receiver.url))
            assert await world.store.outbox.kept(10) == []
    assert claimed == [1, 0, 1, 0, 1, 0, 1, 0, 1]
    assert set(receiver.ids) == {f"msg_{issued.media.id.hex}_ready"}
    assert len({body for _, body in receiver.requests}) == 1


async def test_after_three_days_it_is_given_up_and_can_be_sent_again(make_world: MakeWorld) -> None:
    async with receiving(500) as receiver:
        world = make_world(announce_to=(receiver.url,))
        issued = await world.uploaded()
        await world.verbs.complete(issued.media.id, "anna")
        outbox = world.store.outbox
        async with sending(world, receiver) as webhooks:
            attempts = 0
            while (await outbox.kept(1))[0].next_at is not None:
                attempts += await webhooks.once(receiver.url)
                world.clock.move(minutes=20)
            backlog = await outbox.backlog()
            assert (backlog.waiting, backlog.given_up) == (0, 1)
            assert 12 <= attempts <= 20
            receiver.answers = [receiver.status(200)]
            now = world.clock()
            assert await outbox.retry([receiver.url], now, give_up_at=now + PATIENCE) == 1
            assert await webhooks.once(receiver.url) == 1
    assert await outbox.kept(1) == []
    assert set(receiver.ids) == {f"msg_{issued.media.id.hex}_ready"}


async def test_410_disables_the_target_alone_until_it_is_enabled(make_world: MakeWorld) -> None:
    async with receiving(410) as gone, receiving(200) as other:
        world = make_world(announce_to=(gone.url, other.url))
        first, second = [await world.uploaded() for _ in range(2)]
        outbox = world.store.outbox
        async with sending(world, gone, other) as webhooks:
            await world.verbs.complete(first.media.id, "anna")
            assert await webhooks.once(gone.url) == 1
            assert list(await outbox.disabled()) == [gone.url]
            await world.verbs.complete(second.media.id, "anna")
            world.clock.move(hours=9)
            assert await webhooks.once(gone.url) == 0
            assert await webhooks.once(other.url) == 2
            gone.answers = [gone.status(200)]
            now = world.clock()
            assert await outbox.retry([gone.url], now, give_up_at=now + PATIENCE) == 2
            assert await webhooks.once(gone.url) == 2
            assert await outbox.disabled() == {}
    assert set(gone.ids[1:]) == set(other.ids)


async def test_a_failed_webhook_delays_only_later_ones_of_its_media(make_world: MakeWorld) -> None:
    async with receiving(500, 200) as receiver:
        world = make_world(announce_to=(receiver.url,))
        one, other = [await world.uploaded() for _ in range(2)]
        async with sending(world, receiver) as webhooks:
            await world.verbs.complete(one.media.id, "anna")
            assert await webhooks.once(receiver.url) == 1
            await world.verbs.delete(one.media.id, "anna")
            await world.verbs.complete(other.media.id, "anna")
            world.clock.move(seconds=1)
            assert await webhooks.once(receiver.url) == 1
            await world.sweep_after(hours=2)
            while await webhooks.once(receiver.url):
                pass
    ids = [f"msg_{media.id.hex}_{state}" for media, state in ((one.media, "ready"), (one.media, "deleted"))]
    assert receiver.ids[1] == f"msg_{other.media.id.hex}_ready"
    assert [told for told in receiver.ids if told in ids] == [ids[0], *ids]


async def test_a_hanging_target_does_not_delay_others(make_world: MakeWorld) -> None:
    async with receiving("hang") as hanging, receiving(200) as quick:
        world = make_world(announce_to=(hanging.url, quick.url))
        issued = [await world.uploaded() for _ in range(3)]
        async with telling(world, hanging, quick):
            for one in issued:
                await world.verbs.complete(one.media.id, "anna")
            await until(lambda: len(quick.requests) == 3, 5)
            assert len(hanging.requests) <= 3


async def test_a_worker_that_dies_after_sending_causes_a_repeat_with_the_same_id(make_world: MakeWorld) -> None:
    async with receiving(200) as receiver:
        world = make_world(announce_to=(receiver.url,))
        issued = await world.uploaded()
        await world.verbs.complete(issued.media.id, "anna")
        sender = Sender([SECRET], PublicNetwork(loopback=True))
        now = world.clock()
        (claimed,) = await world.store.outbox.claim(receiver.url, now, lease_until=now + CLAIM, limit=10)
        assert (await sender.send(claimed, now)).delivered
        await sender.close()
        async with sending(world, receiver) as webhooks:
            assert await webhooks.once(receiver.url) == 0
            world.clock.move(seconds=CLAIM.total_seconds() + 1)
            assert await webhooks.once(receiver.url) == 1
    assert len(receiver.ids) == 2
    assert len(set(receiver.ids)) == 1


async def test_without_a_target_the_outbox_stays_empty(world: World) -> None:
    issued = await world.uploaded()
    await world.verbs.complete(issued.media.id, "anna")
    assert await world.state(issued.media.id) == State.READY
    assert await world.store.outbox.kept(1) == []


@pytest.mark.parametrize(
    ("attempts", "seconds"), [(1, 5), (2, 15), (3, 45), (8, 10935), (9, MAX_DELAY_SECONDS), (99, MAX_DELAY_SECONDS)]
)
def test_delays_grow_and_are_spread(attempts: int, seconds: float) -> None:
    assert delay(attempts, 0.5) == timedelta(seconds=seconds)
    assert delay(attempts, 0.0) == timedelta(seconds=seconds * 0.8)
    assert delay(attempts, 1.0) == timedelta(seconds=seconds * 1.2)


class FailsOnce(Sender):
    """A sender with a defect that shows once."""

    failed = False

    async def send(self, announcement: Announcement, now: datetime) -> Answer:
        if not self.failed:
            self.failed = True
            raise ZeroDivisionError
        return await super().send(announcement, now)


async def test_a_failure_in_one_webhook_does_not_end_the_others(make_world: MakeWorld) -> None:
    async with receiving(200) as receiver:
        world = make_world(announce_to=(receiver.url,))
        sender = FailsOnce([SECRET], PublicNetwork(loopback=True))
        webhooks = Webhooks(world.store.outbox, sender, (receiver.url,), clock=world.clock)
        with capture_logs() as logs:
            running = asyncio.create_task(webhooks.run())
            for _ in range(2):
                issued = await world.uploaded()
                await world.verbs.complete(issued.media.id, "anna")
                await until(lambda: sender.failed)
            await until(lambda: receiver.requests)
            await webhooks.stop()
            await running
        await sender.close()
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["webhooks failed"]
