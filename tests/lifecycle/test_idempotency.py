"""Idempotency keys: the same key returns the same media, with a policy while it is pending."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from broker.domain.media import State
from broker.domain.s3.policy import MAX_POLICY_SECONDS
from broker.errors import IdempotencyKeyInFlight, IdempotencyKeyReused, UploadExpired
from broker.lifecycle.requests import Issued, UploadRequest
from tests.support.world import GRACE_SECONDS, OVER, POLICY_SECONDS, VIDEO, World, overtaken

ASKED = UploadRequest(content_type="video/mp4", size=len(VIDEO))


async def issue(world: World, asked: UploadRequest = ASKED, owner: str = "anna") -> Issued:
    return await world.verbs.issue(asked, owner, idempotency_key="once")


async def test_a_pending_media_gets_a_fresh_policy_that_works(world: World) -> None:
    first = await issue(world)
    world.clock.move(seconds=5)
    again = await issue(world)
    assert again.media.id == first.media.id
    assert again.fields["x-amz-date"] > first.fields["x-amz-date"]
    assert world.post(again).status_code == 201
    assert (await world.verbs.complete(first.media.id, "anna")).media.state is State.READY


async def test_a_renewal_that_loses_a_race_reads_the_row_again(world: World) -> None:
    world.clock.stop()
    first = await issue(world)
    world.clock.move(seconds=5)
    later = first.media.policy_expires_at + timedelta(seconds=2)
    with overtaken(world.store, policy_expires_at=later):
        again = await issue(world)
    assert again.media.id == first.media.id
    assert again.media.policy_expires_at == again.expires_at == world.clock() + timedelta(seconds=POLICY_SECONDS)
    assert again.media.version == 2
    assert again.media.due_at == again.expires_at + timedelta(seconds=GRACE_SECONDS)


async def test_no_policy_is_renewed_after_an_hour(world: World) -> None:
    world.clock.stop()
    await issue(world)
    world.clock.move(seconds=MAX_POLICY_SECONDS)
    with pytest.raises(UploadExpired):
        await issue(world)


async def test_a_completed_media_gets_no_further_policy(world: World) -> None:
    first = await issue(world)
    world.post(first)
    await world.verbs.complete(first.media.id, "anna")
    again = await issue(world)
    assert (again.media.id, again.media.state, again.fields) == (first.media.id, State.READY, {})
    assert (again.url, again.expires_in) == (first.url, 0)


@pytest.mark.parametrize("ends", ["deleted", "expired"])
async def test_a_finished_media_gets_no_further_policy(world: World, ends: str) -> None:
    first = await issue(world)
    if ends == "deleted":
        await world.verbs.delete(first.media.id, "anna")
    else:
        await world.sweep_after(**OVER)
        assert await world.state(first.media.id) == State.EXPIRED
    with pytest.raises(UploadExpired, match="has expired; start a new one, with a new Idempotency-Key"):
        await issue(world)


@pytest.mark.parametrize(
    "other", [{"size": 7}, {"content_type": "video/webm"}, {"filename": "b.mp4"}, {"metadata": {"a": "b"}}]
)
async def test_a_different_request_is_refused_and_records_nothing(world: World, other: dict[str, Any]) -> None:
    first = await issue(world)
    asked: dict[str, Any] = {"content_type": "video/mp4", "size": len(VIDEO), **other}
    with pytest.raises(IdempotencyKeyReused):
        await issue(world, UploadRequest(**asked))
    listed = await world.verbs.list_media("anna", state=None, limit=10, before=None)
    assert [media.id for media in listed] == [first.media.id]


async def test_another_owner_may_use_the_same_key(world: World) -> None:
    assert (await issue(world)).media.id != (await issue(world, owner="bert")).media.id


async def test_a_concurrent_repetition_is_refused_until_the_first_is_done(world: World) -> None:
    answers = await asyncio.gather(*(issue(world) for _ in range(5)), return_exceptions=True)
    issued = [answer for answer in answers if isinstance(answer, Issued)]
    assert len(issued) == 1
    assert sum(isinstance(answer, IdempotencyKeyInFlight) for answer in answers) == 4


def test_unset_fields_do_not_change_the_digest() -> None:
    """A later version with more fields still recognizes the requests of an earlier one."""
    bare = UploadRequest(content_type="video/mp4")
    assert bare.digest() == UploadRequest(content_type="video/mp4", size=None, metadata={}).digest()
    assert bare.digest() == bare._replace(resumable=False).digest()
    # Pinned, because a retry may reach another version than the first request.
    assert bare.digest() == "28353330e824a039e93673c332262e49725a3914efe76ab2d90699382f2b8b26"
    resumable = bare._replace(size=7, resumable=True)
    assert resumable.digest() == "e4a2aaf73ecdfb4a1463830ea408efe828bea5118106de49e0d7923c0dbd597f"


def test_the_order_of_metadata_does_not_change_the_digest() -> None:
    one, other = ({"b": "2", "a": "1"}, {"a": "1", "b": "2"})
    assert ASKED._replace(metadata=one).digest() == ASKED._replace(metadata=other).digest()
