"""The erasure of an owner leaves nothing of it, touches nothing of others, and survives a crash halfway."""

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from broker.domain.media import Event, Media, State
from broker.errors import MediaNotFound
from broker.lifecycle import erasure
from broker.lifecycle.erasure import Erasure
from broker.lifecycle.requests import UploadRequest
from broker.store import Store
from broker.store.connections.address import parse_url
from broker.store.schema import METADATA
from tests.support.world import OVER, VIDEO, MakeWorld, World


@pytest.fixture
def world_url(database_url: str) -> str:
    """Run each test of this module on both databases."""
    return database_url


@pytest.fixture(autouse=True)
def small_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an erasure take several turns."""
    monkeypatch.setattr(erasure, "TURN", 3)


async def ready(world: World, owner: str) -> Media:
    issued = await world.verbs.issue(UploadRequest(content_type="video/mp4", size=len(VIDEO)), owner)
    assert world.post(issued).status_code == 201
    return (await world.verbs.complete(issued.media.id, owner)).media


async def filled(world: World) -> tuple[list[Media], Media]:
    """Return the media of Anna, in several states, and a ready one of Bob."""
    media = [await ready(world, "anna") for _ in range(5)]
    media += [(await world.issue()).media for _ in range(3)]
    await world.verbs.delete(media[0].id, "anna")
    return media, await ready(world, "bob")


async def finish(world: World, erasing: Erasure) -> None:
    """Let the worker work until all policies and their last purges are over."""
    for move in (OVER, {"hours": 3}, {"minutes": 2}):
        world.clock.move(**move)
        while await erasing.once():
            pass
        await world.sweep_all()
        while await erasing.once():
            pass
        world.clock.move(minutes=2)
        while await erasing.once():
            pass


def rows_that_name(world: World, url: str, owner: str) -> list[str]:
    """Return the tables in which a row names the owner."""
    engine = sa.create_engine(parse_url(url))
    with engine.connect() as connection:
        found = [
            table.name
            for table in METADATA.sorted_tables
            for row in connection.execute(sa.select(table))
            if any(owner in str(value) for value in row)
        ]
    engine.dispose()
    return found


async def test_nothing_of_the_owner_is_left_and_another_owner_loses_nothing(world: World, world_url: str) -> None:
    media, other = await filled(world)
    erasing = Erasure(world.store, world.settlement, clock=world.clock)
    assert await erasing.request("anna") == (len(media), False)
    with capture_logs() as logs:
        await finish(world, erasing)
    assert logs.count({"event": "an owner is erased", "log_level": "info"}) == 1
    assert rows_that_name(world, world_url, "anna") == []
    assert [key for key in world.stored_keys() if str(other.id) not in key] == []
    assert world.final_bytes(other) == VIDEO
    assert await world.state(other.id) == State.READY
    assert (await world.store.usage("bob")).media_count == 1


async def test_media_are_gone_for_clients_before_the_worker_has_its_turn(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "TURN", 500)
    media, _ = await filled(world)
    await Erasure(world.store, world.settlement, clock=world.clock).request("anna")
    for each in media:
        with pytest.raises(MediaNotFound):
            await world.verbs.playback(each.id, "anna", expires_in=60, download=False)


async def test_what_is_issued_while_the_erasure_runs_is_erased_too(world: World, world_url: str) -> None:
    erasing = Erasure(world.store, world.settlement, clock=world.clock)
    await filled(world)
    await erasing.request("anna")
    late = await ready(world, "anna")
    await finish(world, erasing)
    assert rows_that_name(world, world_url, "anna") == []
    assert [key for key in world.stored_keys() if str(late.id) in key] == []


async def test_an_erased_media_counts_until_its_policy_can_bring_nothing_back(world: World) -> None:
    await world.issue()
    await Erasure(world.store, world.settlement, clock=world.clock).request("anna")
    assert (await world.store.usage("anna")).promised_bytes == len(VIDEO)


async def test_a_turn_removes_a_bounded_number_of_records(world: World) -> None:
    for issued in [await world.issue() for _ in range(erasure.TURN + 2)]:
        await world.verbs.delete(issued.media.id, "anna")
    for move in (OVER, {"hours": 3}):
        await world.sweep_after(**move)
    assert await Erasure(world.store, world.settlement, clock=world.clock).request("anna") == (2, False)


async def test_a_bounded_number_of_owners_has_a_turn_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure, "OWNERS", 2)
    for owner in ("anna", "bob", "carla"):
        await world.store.removal.record_erasure(owner, world.clock())
    erasing = Erasure(world.store, world.settlement, clock=world.clock)
    assert [await erasing.once() for _ in range(3)] == [2, 1, 0]


async def issued_by_anna(world: World, count: int) -> list[Media]:
    """Return media of Bob that Anna issued, some with an Idempotency-Key, and complete the first of them."""
    asked = UploadRequest(content_type="video/mp4", size=len(VIDEO), owner="bob", allow_link=True)
    keys = [f"key {number}" if number % 2 else None for number in range(count)]
    issued = [await world.verbs.issue(asked, "anna", idempotency_key=key) for key in keys]
    assert world.post(issued[0]).status_code == 201
    await world.verbs.complete(issued[0].media.id, "bob")
    return [each.media for each in issued]


async def test_media_of_others_no_longer_name_the_caller_that_issued_them(world: World, world_url: str) -> None:
    of_bob = await issued_by_anna(world, 7)  # more than two turns
    of_carla = await world.verbs.issue(
        UploadRequest(content_type="video/mp4", size=len(VIDEO), owner="bob"), "carla", idempotency_key="key 1"
    )
    erasing = Erasure(world.store, world.settlement, clock=world.clock)
    assert await erasing.request("anna") == (len(of_bob) - erasure.TURN, False)
    while await erasing.once():
        pass
    assert rows_that_name(world, world_url, "anna") == []
    assert await erasing.request("anna") == (0, True)

    assert await world.ready_bytes(of_bob[0].id) == VIDEO
    for each in of_bob[1:]:
        assert await world.store.get(each.id, "bob") == each._replace(issued_by=None, idempotency_key=None)
    assert (await world.store.usage("bob")).media_count == len(of_bob) + 1
    assert (await world.store.get(of_carla.media.id, "bob")).issued_by == "carla"


class Died(Exception):
    """The process ended."""


class DyingStore(Store):
    """A store of a process that dies before its call of a number, whatever it is."""

    calls_left: int

    async def _survive(self) -> None:
        if not self.calls_left:
            raise Died
        self.calls_left -= 1

    async def change(self, media: Media, event: Event, **changes: Any) -> Media | None:
        await self._survive()
        return await super().change(media, event, **changes)

    async def list(self, *arguments: Any, **options: Any) -> list[Media]:
        await self._survive()
        return await super().list(*arguments, **options)


@pytest.mark.parametrize("calls", range(6))
async def test_an_erasure_that_dies_anywhere_is_finished_by_another_process(
    make_world: MakeWorld, world_url: str, calls: int
) -> None:
    world = make_world()
    await filled(world)
    dying = DyingStore(world_url, clock=world.clock)
    dying.calls_left = calls
    erasing = Erasure(dying, world.settlement, clock=world.clock)
    with pytest.raises(Died):
        await asyncio.gather(*(erasing.request("anna") for _ in range(3)))
    await dying.close()
    await finish(world, Erasure(world.store, world.settlement, clock=world.clock))
    assert rows_that_name(world, world_url, "anna") == []
    assert len(world.stored_keys()) == 1
