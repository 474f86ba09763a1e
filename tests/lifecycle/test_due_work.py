"""The due work by itself: bounded turns of a purge, what is left of one, and interrupted promotions."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from broker.aws.deletion import Deletion
from broker.domain.keys import every_final_key
from broker.domain.media import Event, Media, State
from broker.lifecycle.due import MAX_CLOCK_DIFFERENCE, DueWork
from broker.lifecycle.leases import LEASE
from broker.lifecycle.purging import MAX_KEYS, Purges
from broker.lifecycle.settlement import Settlement
from broker.store import Store
from tests.support.samples import pending

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=1)


class Row(Store):
    """A store of one row that notes its changes."""

    def __init__(self) -> None:
        self.changes: list[tuple[Any, ...]] = []

    async def amend(self, media: Media, **changes: Any) -> Media | None:
        self.changes.append((media.id, changes))
        return media._replace(**changes)

    async def change(self, media: Media, event: Event, **changes: Any) -> Media | None:
        self.changes.append((media.id, event, changes))
        return media


class Removed(Purges):
    """Note the keys of each turn; `left_in` is the turn that leaves something."""

    def __init__(self) -> None:
        super().__init__(Deletion.__new__(Deletion))
        self.turns: list[tuple[str, ...]] = []
        self.left_in: int | None = None

    async def remove(self, *keys: str) -> bool:
        self.turns.append(keys)
        return len(self.turns) != self.left_in


class Settled(Settlement):
    """A settlement that purges uploads as the test says, and takes leases."""

    def __init__(self) -> None:
        self.grace = timedelta()
        self.purges = self.removed = Removed()
        self.upload_is_gone = True
        self.taken: list[Media] = []
        self._clock = lambda: NOW

    async def purge_upload(self, media: Media) -> bool:
        return self.upload_is_gone

    async def take_lease(self, media: Media) -> Media:
        self.taken.append(media)
        return media._replace(state=State.READY)


@pytest.fixture
def store() -> Row:
    return Row()


@pytest.fixture
def settlement() -> Settled:
    return Settled()


@pytest.fixture
def work(store: Row, settlement: Settled) -> DueWork:
    return DueWork(store, settlement, lambda: NOW)


def media_in(state: State, **fields: Any) -> Media:
    return pending(state=state, policy_expires_at=LONG_AGO, ended_at=LONG_AGO, **fields)


async def test_an_interrupted_promotion_is_taken_over(work: DueWork, settlement: Settled) -> None:
    media = media_in(State.PROMOTING)
    await work.settle(media)
    assert settlement.taken == [media]


async def test_the_keys_of_all_attempts_are_removed_in_bounded_turns(
    work: DueWork, settlement: Settled, store: Row
) -> None:
    media = media_in(State.REJECTED, attempt=2 * MAX_KEYS + 5)
    await work.settle(media)
    assert [len(turn) for turn in settlement.removed.turns] == [MAX_KEYS, MAX_KEYS, 6]
    assert [key for turn in settlement.removed.turns for key in turn] == every_final_key(media)
    assert store.changes == [(media.id, {"due_at": None, "still_promised": False})]


@pytest.mark.parametrize("state", [State.REJECTED, State.DELETED, State.DELETING])
async def test_what_a_turn_leaves_is_due_at_once(work: DueWork, settlement: Settled, store: Row, state: State) -> None:
    media = media_in(state, attempt=2 * MAX_KEYS + 5)
    settlement.removed.left_in = 2
    await work.settle(media)
    assert len(settlement.removed.turns) == 2
    assert store.changes == [(media.id, {"due_at": NOW})]


@pytest.mark.parametrize("state", [State.REJECTED, State.DELETING])
async def test_final_objects_are_removed_only_after_the_upload(
    work: DueWork, settlement: Settled, store: Row, state: State
) -> None:
    media = media_in(state)
    settlement.upload_is_gone = False
    await work.settle(media)
    assert settlement.removed.turns == []
    assert store.changes == [(media.id, {"due_at": NOW})]


async def test_a_deleted_media_is_purged_once_more(work: DueWork, store: Row) -> None:
    media = media_in(State.DELETING)
    await work.settle(media)
    due_at = NOW + LEASE + MAX_CLOCK_DIFFERENCE
    assert store.changes == [(media.id, Event.PURGE, {"due_at": due_at, "still_promised": False})]
