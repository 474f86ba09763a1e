"""On a versioned bucket, many replays of one policy cost requests nothing, and delay no other media."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from broker.aws.bucket import Bucket
from broker.aws.client import Answer
from broker.domain.keys import staging_key
from broker.domain.media import Media, State
from tests.support.world import OVER, VIDEO, MakeWorld, World

AT_A_TIME = 100
REPLAYS = 210
TURNS = 3
"""The turns of at most AT_A_TIME versions each that remove the replays."""


class Counted(Bucket):
    """A bucket that notes the operations that it calls."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.operations: list[str] = []

    async def _call(self, operation: str, method: str, key: str = "", **options: Any) -> Answer:
        self.operations.append(operation)
        return await super()._call(operation, method, key, **options)


@pytest.fixture
def world_url(database_url: str) -> str:
    """Run each test of this module on both databases."""
    return database_url


@pytest.fixture
def versioned(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> World:
    """Return a broker whose bucket keeps versions, and removes fewer of them in a turn than S3 would."""
    monkeypatch.setattr("broker.aws.deletion.MAX_VERSIONS", AT_A_TIME)
    world = make_world(Counted)
    world.s3.put_bucket_versioning(Bucket=world.bucket.config.name, VersioningConfiguration={"Status": "Enabled"})
    return world


def replay(world: World, media: Media) -> None:
    """Store many versions of the staging object, as replays of the policy do."""

    def put(number: int) -> None:
        world.s3.put_object(
            Bucket=world.bucket.config.name, Key=staging_key(media.id), Body=VIDEO, ContentType="video/mp4"
        )

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(REPLAYS)))


def versions(world: World, prefix: str) -> int:
    pages = world.s3.get_paginator("list_object_versions").paginate(Bucket=world.bucket.config.name, Prefix=prefix)
    return sum(len(page.get(kind, ())) for page in pages for kind in ("Versions", "DeleteMarkers"))


async def test_replays_are_purged_in_bounded_turns_behind_every_other_media(versioned: World) -> None:
    world = versioned
    assert isinstance(world.bucket, Counted)
    issued = await world.uploaded()
    replay(world, issued.media)
    world.bucket.operations.clear()
    await world.verbs.complete(issued.media.id, "anna")
    assert world.bucket.operations[:2] == ["head_object", "copy_object"]
    assert {*world.bucket.operations[2:]} <= {"delete_objects"}
    await world.purged()
    assert world.bucket.operations[2:] == ["delete_objects", "list_object_versions", "delete_objects"]
    assert versions(world, staging_key(issued.media.id)) > REPLAYS - AT_A_TIME

    others = [(await world.uploaded()).media for _ in range(5)]
    world.clock.move(**OVER)
    turns = 0
    while versions(world, staging_key(issued.media.id)):
        world.bucket.operations.clear()
        await world.sweep.once()
        turns += 1
        assert turns <= TURNS
        assert [await world.state(media.id) for media in others] == [State.READY] * len(others)
        assert len(world.bucket.operations) <= 6 * (1 + len(others))
    await world.sweep_after(hours=1)
    assert versions(world, "staging/") == 0
    assert world.final_bytes(issued.media) == VIDEO


async def test_a_deletion_takes_one_bounded_turn_of_the_request(versioned: World) -> None:
    world = versioned
    assert isinstance(world.bucket, Counted)
    issued = await world.uploaded()
    replay(world, issued.media)
    world.bucket.operations.clear()
    await world.verbs.delete(issued.media.id, "anna")
    assert len(world.bucket.operations) <= 6
    await world.sweep_after(**OVER)
    await world.sweep_after(hours=1)
    assert versions(world, "") == 0
    assert await world.state(issued.media.id) == State.DELETED
