"""The removal of rows, over both databases: after a retention for each state, and with the erasure of an owner."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from broker.domain.access.quota import Usage
from broker.domain.announcement import PATIENCE
from broker.domain.media import Event, Media, State
from broker.errors import MediaNotFound
from broker.store import Store
from broker.store.connections.address import parse_url
from tests.support.samples import UNLIMITED, pending

HOOK = "https://app.example/hook"
DAY = timedelta(days=1)


class Clock:
    """The machine's time plus an offset that a test moves."""

    def __init__(self) -> None:
        self.moved = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.moved


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def dated(database_url: str, clock: Clock) -> Store:
    return Store(database_url, clock=clock)


async def ended(store: Store, state: State, **fields: Any) -> Media:
    """Return a media in a final state that the sweep is done with."""
    media: Media | None = await store.add(pending(**fields), UNLIMITED)
    assert media is not None
    events = {
        State.REJECTED: [Event.DIFFER],
        State.EXPIRED: [Event.EXPIRE],
        State.DELETED: [Event.DELETE, Event.PURGE],
    }[state]
    for event in events:
        assert media is not None
        media = await store.change(media, event, due_at=None)
    assert media is not None
    return media


async def is_there(store: Store, media: Media) -> bool:
    try:
        await store.get(media.id, None)
    except MediaNotFound:
        return False
    return True


@pytest.mark.parametrize("state", [State.REJECTED, State.EXPIRED, State.DELETED])
async def test_a_row_is_removed_once_it_has_been_in_its_state_for_long_enough(
    dated: Store, clock: Clock, state: State
) -> None:
    old = await ended(dated, state, created_at=clock() - 400 * DAY)
    other = await ended(dated, State.EXPIRED if state is not State.EXPIRED else State.REJECTED)
    assert old.ended_at is not None
    clock.moved = 10 * DAY
    new = await ended(dated, state)
    assert await dated.removal.remove_ended(state, clock(), before=clock() - 11 * DAY, limit=10) == 0
    assert await dated.removal.remove_ended(state, clock(), before=clock() - 9 * DAY, limit=10) == 1
    assert [await is_there(dated, media) for media in (old, other, new)] == [False, True, True]
    await dated.close()


async def test_rows_that_the_sweep_still_visits_and_rows_of_other_states_stay(dated: Store, clock: Clock) -> None:
    rejected = await ended(dated, State.REJECTED)
    assert await dated.amend(rejected, due_at=clock()) is not None
    expired = await ended(dated, State.EXPIRED)
    promoting = await dated.change(expired, Event.MATCH, size=1, etag="e")
    assert promoting is not None
    assert promoting.ended_at is None
    waiting = await dated.add(pending(), UNLIMITED)
    clock.moved = 100 * DAY
    for state in State:
        assert await dated.removal.remove_ended(state, clock(), before=clock(), limit=10) == 0
    assert all([await is_there(dated, media) for media in (rejected, expired, waiting)])
    await dated.close()


async def test_a_removal_is_bounded_and_takes_the_oldest_first(dated: Store, clock: Clock) -> None:
    media = [await ended(dated, State.EXPIRED) for _ in range(5)]
    clock.moved = DAY
    for left in (3, 1, 0):
        assert await dated.removal.remove_ended(State.EXPIRED, clock(), before=clock(), limit=2) > 0
        assert [await is_there(dated, each) for each in media] == [False] * (5 - left) + [True] * left
    await dated.close()


async def test_a_row_without_a_date_is_dated_by_its_creation(dated: Store, database_url: str, clock: Clock) -> None:
    old = await ended(dated, State.EXPIRED, created_at=clock() - 40 * DAY)
    new = await ended(dated, State.EXPIRED)
    engine = sa.create_engine(parse_url(database_url))
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE broker_media SET ended_at = NULL"))
    engine.dispose()
    assert await dated.removal.date_ended(State.EXPIRED, limit=1) == 1
    assert await dated.removal.date_ended(State.EXPIRED, limit=10) == 1
    assert await dated.removal.date_ended(State.EXPIRED, limit=10) == 0
    assert await dated.removal.remove_ended(State.EXPIRED, clock(), before=clock() - 30 * DAY, limit=10) == 1
    assert [await is_there(dated, media) for media in (old, new)] == [False, True]
    await dated.close()


async def test_an_idempotency_key_can_be_used_anew_once_its_media_is_removed(dated: Store, clock: Clock) -> None:
    old = await ended(dated, State.EXPIRED, idempotency_key="k")
    assert (await dated.add(pending(idempotency_key="k"), UNLIMITED)).id == old.id
    clock.moved = DAY
    await dated.removal.remove_ended(State.EXPIRED, clock(), before=clock(), limit=10)
    assert (await dated.add(again := pending(idempotency_key="k"), UNLIMITED)).id == again.id
    await dated.close()


async def test_an_erasure_is_due_until_it_is_finished(dated: Store) -> None:
    now = datetime.now(UTC)
    removal = dated.removal
    for owner in ("ann", "bob"):
        await removal.record_erasure(owner, now)
    assert await removal.claim_erasures(now, next_at=now + DAY, limit=1) == ["ann"]
    assert await removal.claim_erasures(now, next_at=now + DAY, limit=9) == ["bob"]
    assert await removal.claim_erasures(now, next_at=now + DAY, limit=9) == []
    await removal.record_erasure("ann", now)
    assert await removal.claim_erasures(now, next_at=now + DAY, limit=9) == ["ann"]
    assert await removal.finish_erasure("ann")
    assert await removal.claim_erasures(now + 2 * DAY, next_at=now + 3 * DAY, limit=9) == ["bob"]
    await dated.close()


async def test_an_erasure_removes_the_rows_of_deleted_media_and_then_the_usage(dated: Store) -> None:
    now = datetime.now(UTC)
    await dated.removal.record_erasure("ann", now)
    gone = [await ended(dated, State.DELETED) for _ in range(3)]
    kept = await ended(dated, State.DELETED, owner="bob")
    left = await dated.add(pending(), UNLIMITED)
    assert await dated.removal.remove_erased("ann", now, limit=2) == 2
    assert await dated.removal.remove_erased("ann", now, limit=2) == 1
    assert [await is_there(dated, media) for media in (*gone, kept, left)] == [False] * 3 + [True] * 2
    assert not await dated.removal.finish_erasure("ann")
    assert await dated.removal.count_of("ann") == 1
    deleting = await dated.change(left, Event.DELETE)
    assert deleting is not None
    assert await dated.change(deleting, Event.PURGE, due_at=None) is not None
    assert await dated.removal.remove_erased("ann", now, limit=2) == 1
    assert await dated.removal.finish_erasure("ann")
    assert await dated.usage("ann") == Usage()
    assert (await dated.add(pending(), UNLIMITED)).owner == "ann"
    await dated.close()


async def test_an_erasure_leaves_what_the_sweep_still_visits(dated: Store) -> None:
    now = datetime.now(UTC)
    visited = await ended(dated, State.DELETED)
    assert await dated.amend(visited, due_at=now) is not None
    rejected = await ended(dated, State.REJECTED)
    assert await dated.removal.remove_erased("ann", now, limit=9) == 0
    assert all([await is_there(dated, media) for media in (visited, rejected)])
    await dated.close()


async def test_an_issuers_name_is_removed_from_what_it_issued_alone(dated: Store) -> None:
    def issued_by(issuer: str | None, key: str) -> Any:
        return dated.add(pending("ann", issued_by=issuer, idempotency_key=key), UNLIMITED)

    by_backend = [await issued_by("backend", f"backend\n{number}") for number in range(3)]
    others = [await issued_by("another", "another\n1"), await issued_by(None, "own")]
    assert [await dated.removal.forget_issuer("backend", limit=2) for _ in range(3)] == [2, 1, 0]
    for media in by_backend:
        assert await dated.get(media.id, "ann") == media._replace(issued_by=None, idempotency_key=None)
    for media in others:
        assert await dated.get(media.id, "ann") == media
    await dated.close()


async def test_a_webhook_that_waits_keeps_its_media_until_it_is_delivered_or_given_up(database_url: str) -> None:
    now = datetime.now(UTC)
    store = Store(database_url, announce_to=(HOOK,))
    gone = await ended(store, State.DELETED)
    assert await store.removal.remove_erased("ann", now, limit=9) == 0
    assert await store.removal.remove_erased("ann", now + 30 * DAY, limit=9) == 1
    assert not await is_there(store, gone)
    assert await store.outbox.kept(9) == []
    await store.close()


@pytest.mark.parametrize("state", [State.REJECTED, State.EXPIRED, State.DELETED])
async def test_the_retention_removes_a_media_with_its_webhooks_once_none_waits(
    database_url: str, clock: Clock, state: State
) -> None:
    store = Store(database_url, announce_to=(HOOK,), clock=clock)
    media = await ended(store, state, filename="private.mp4")
    clock.moved = DAY
    assert await store.removal.remove_ended(state, clock(), before=clock(), limit=9) == 0
    for each in await store.outbox.kept(9):
        await store.outbox.postpone(each, None, "it answered 500")
    assert await store.outbox.kept(9) != []
    assert await store.removal.remove_ended(state, clock(), before=clock(), limit=9) == 1
    assert (await is_there(store, media), await store.outbox.kept(9)) == (False, [])
    await store.close()


async def test_a_webhook_of_a_target_that_is_gone_from_the_settings_is_removed_with_its_media(
    database_url: str, clock: Clock
) -> None:
    store = Store(database_url, announce_to=(HOOK,), clock=clock)
    await ended(store, State.DELETED)
    clock.moved = 2 * PATIENCE  # nothing delivers or tidies the outbox
    assert await store.removal.remove_ended(State.DELETED, clock(), before=clock(), limit=9) == 1
    assert await store.outbox.kept(9) == []
    await store.close()


async def test_an_erasure_removes_webhooks_that_an_earlier_release_left_without_their_media(database_url: str) -> None:
    now = datetime.now(UTC)
    store = Store(database_url, announce_to=(HOOK,))
    for owner in ("ann", "bob"):
        await ended(store, State.EXPIRED, owner=owner)
    engine = sa.create_engine(parse_url(database_url))
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM broker_media"))
    engine.dispose()
    await store.removal.record_erasure("ann", now)
    assert await store.removal.finish_erasure("ann")
    assert [each.data["owner"] for each in await store.outbox.kept(9)] == ["bob"]
    await store.close()
