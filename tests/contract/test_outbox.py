"""The outbox: announcements are written with their change of state, and each is claimed by one caller at a time."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from broker.domain.announcement import PATIENCE, Announcement
from broker.domain.media import Event, Media, State
from broker.errors import DatabaseUnavailable
from broker.store import Store
from tests.contract.conftest import OpenStore
from tests.support.samples import UNLIMITED, locked, pending

HERE, THERE = "https://here.example/hook", "https://there.example/hook"
CLAIM = timedelta(minutes=1)


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def telling(open_store: OpenStore) -> Store:
    """Return a store that announces changes to two targets."""
    return open_store(announce_to=(HERE, THERE))


async def rejected(store: Store, **fields: Any) -> Media:
    media = await store.add(pending(**fields), UNLIMITED)
    after = await store.change(media, Event.DIFFER, differences="it differs")
    assert after is not None
    return after


async def claim(store: Store, target: str = HERE, *, at: datetime | None = None, limit: int = 10) -> list[Announcement]:
    at = at or now()
    return await store.outbox.claim(target, at, lease_until=at + CLAIM, limit=limit)


async def test_a_change_is_announced_once_to_each_target(telling: Store) -> None:
    media = await rejected(telling, metadata={"title": "ü"})
    for target in (HERE, THERE):
        (told,) = await claim(telling, target)
        assert (told.target, told.media_id, told.version) == (target, media.id, media.version)
        assert (told.state, told.attempts, told.data["differences"]) == (State.REJECTED, 0, "it differs")
        assert told.data["metadata"] == {"title": "ü"}
        assert told.give_up_at - told.at == PATIENCE
        await telling.outbox.delivered(told)
    assert await telling.outbox.kept(10) == []


async def test_the_loser_of_a_race_announces_nothing(telling: Store, open_store: OpenStore) -> None:
    media = await telling.add(pending(), UNLIMITED)
    racing = [telling.change(media, Event.DIFFER, differences=str(number)) for number in range(20)]
    ends = await asyncio.gather(*racing, telling.change(media, Event.EXPIRE, due_at=None))
    assert sum(end is not None for end in ends) == 1
    assert len(await telling.outbox.kept(100)) == 2


async def test_a_change_that_is_not_written_is_not_announced(
    telling: Store, database_url: str, open_store: OpenStore
) -> None:
    hasty = open_store(timeout_seconds=0.3, announce_to=(HERE,))
    media = await telling.add(pending(), UNLIMITED)
    with locked(database_url), pytest.raises(DatabaseUnavailable):
        await hasty.change(media, Event.DIFFER, differences="it differs")
    assert await telling.outbox.kept(10) == []
    assert (await telling.get(media.id, None)).state is State.PENDING


async def test_intermediate_states_are_not_announced(telling: Store) -> None:
    media = await telling.add(pending(), UNLIMITED)
    promoting = await telling.change(media, Event.MATCH, size=1, etag="e", judgements=1)
    assert promoting is not None
    deleting = await telling.change(promoting, Event.DELETE)
    assert deleting is not None
    assert await telling.amend(deleting, due_at=None) is not None
    assert await telling.outbox.kept(10) == []


async def test_replicas_share_the_due_announcements_without_overlap(telling: Store, open_store: OpenStore) -> None:
    media = [await rejected(telling) for _ in range(30)]
    replicas = [open_store() for _ in range(3)]
    at = now()
    found = await asyncio.gather(*(claim(store, at=at, limit=7) for store in replicas for _ in range(4)))
    claimed = [told.media_id for batch in found for told in batch]
    while batch := await claim(telling, at=at):
        claimed += [told.media_id for told in batch]
    assert sorted(claimed) == sorted(one.id for one in media)


async def test_an_expired_lease_is_claimed_again_and_its_former_holder_changes_nothing(telling: Store) -> None:
    await rejected(telling)
    at = now()
    (late,) = await claim(telling, at=at)
    assert await claim(telling, at=at) == []
    (fresh,) = await claim(telling, at=at + CLAIM)
    await telling.outbox.postpone(late, None, "late")
    kept = [one for one in await telling.outbox.kept(10) if one.target == HERE]
    assert kept == [fresh]
    await telling.outbox.postpone(fresh, at + 2 * CLAIM, "it answered 500")
    (again,) = await claim(telling, at=at + 2 * CLAIM)
    assert (again.attempts, again.failure) == (1, "it answered 500")


@pytest.mark.parametrize("end", ["told", "given up"])
async def test_announcements_of_one_media_are_claimed_in_order(telling: Store, end: str) -> None:
    first = await rejected(telling)
    deleting = await telling.change(first, Event.DELETE)
    assert deleting is not None
    assert await telling.change(deleting, Event.PURGE, due_at=None) is not None
    (earlier,) = await claim(telling)
    assert earlier.state is State.REJECTED
    assert await claim(telling) == []
    if end == "told":
        await telling.outbox.delivered(earlier)
    else:
        await telling.outbox.postpone(earlier, None, "it answered 500")
    (later,) = await claim(telling)
    assert later.state is State.DELETED


async def test_a_disabled_target_gets_nothing_until_it_is_enabled(telling: Store) -> None:
    await rejected(telling)
    at = now()
    await telling.outbox.disable(HERE, at)
    await telling.outbox.disable(HERE, at + CLAIM)
    assert await claim(telling) == []
    assert len(await claim(telling, THERE)) == 1
    assert await telling.outbox.disabled() == {HERE: at}
    assert (await telling.outbox.backlog()).waiting == 1
    assert await telling.outbox.retry([HERE], at, give_up_at=at + PATIENCE) == 1
    assert len(await claim(telling)) == 1


async def test_kept_announcements_are_listed_from_the_oldest(open_store: OpenStore) -> None:
    clock = now()
    store = open_store(announce_to=(HERE,), clock=lambda: clock)
    first = await rejected(store)
    clock += CLAIM
    second = await rejected(store)
    clock += CLAIM
    deleting = await store.change(first, Event.DELETE)
    assert deleting is not None
    deleted = await store.change(deleting, Event.PURGE, due_at=None)
    assert deleted is not None
    kept = await store.outbox.kept(10)
    assert [(told.media_id, told.version) for told in kept] == [
        (first.id, first.version),
        (second.id, second.version),
        (first.id, deleted.version),
    ]
    assert await store.outbox.kept(2) == kept[:2]
    backlog = await store.outbox.backlog()
    assert (backlog.waiting, backlog.oldest_waiting_at, backlog.given_up) == (3, clock - 2 * CLAIM, 0)


async def test_an_announcement_that_waits_too_long_is_given_up_and_later_deleted(telling: Store) -> None:
    await rejected(telling)
    at = now()
    await telling.outbox.tidy(at, forget_before=at)
    assert (await telling.outbox.backlog()).waiting == 2
    await telling.outbox.tidy(at + PATIENCE + CLAIM, forget_before=at - CLAIM)
    backlog = await telling.outbox.backlog()
    assert (backlog.waiting, backlog.oldest_waiting_at, backlog.given_up) == (0, None, 2)
    assert await claim(telling, at=at + PATIENCE + CLAIM) == []
    await telling.outbox.tidy(at + PATIENCE + CLAIM, forget_before=at + CLAIM)
    assert await telling.outbox.kept(10) == []
