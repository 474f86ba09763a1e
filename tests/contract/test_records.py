"""Records: they are read as they were written, by their owners, page by page."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import pytest

from broker.domain.access.quota import Usage
from broker.domain.media import Event, Media, State
from broker.errors import IllegalTransition, MediaNotFound
from broker.store import Backlog, Store
from tests.support.samples import UNLIMITED, pending

EVERY_FIELD: dict[str, Any] = {
    "promised_size": 999,
    "promised_sha256": "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=",
    "filename": "Übung “eins”.mp4",
    "duration_seconds": 12.345678901234567,
    "metadata": {"clé": "değer", "quote": "\"'%s?:x", "empty": ""},
    "redirect_url": "https://app.example/done?a=1",
    "idempotency_key": "k" * 255,
    "idempotency_digest": "d",
    "size": 2**40,
    "etag": "9bb58f26192e4ba00f01e2e7b136bbd8",
    "checksum": "CRC64NVME:AAAAAAAAAAA=",
    "etag_is_md5": False,
    "judgements": 2,
    "ready_at": datetime(2026, 1, 2, 3, 4, 5, 678901, UTC),
    "differences": "size: 1 instead of 2",
    "due_at": None,
    "issued_by": "backend",
    "allow_link": True,
}


@pytest.mark.parametrize("fields", [{}, EVERY_FIELD], ids=["as issued", "every field"])
async def test_a_media_is_read_as_it_was_added(store: Store, fields: dict[str, Any]) -> None:
    media = pending(**fields)
    assert await store.add(media, UNLIMITED) == media
    assert await store.get(media.id, "ann") == media
    assert await store.list("ann", state=None, limit=5, before=None) == [media]


async def test_instants_keep_their_microseconds_and_are_read_in_utc(store: Store) -> None:
    noon_in_tokyo = datetime(2026, 6, 1, 12, 0, 0, 1, timezone(timedelta(hours=9)))
    media = pending(created_at=noon_in_tokyo)
    await store.add(media, UNLIMITED)
    created_at = (await store.get(media.id, None)).created_at
    assert created_at == noon_in_tokyo
    assert created_at.tzinfo is UTC


async def test_an_instant_without_a_zone_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="must be aware"):
        await store.add(pending(due_at=datetime(2026, 6, 1)), UNLIMITED)  # noqa: DTZ001
    assert await store.usage("ann") == Usage()


async def test_a_media_is_found_by_the_key_of_its_owner_or_of_its_issuer(store: Store) -> None:
    own = await store.add(pending("ann", idempotency_key="k"), UNLIMITED)
    on_behalf = await store.add(pending("bob", idempotency_key="ann\nl", issued_by="ann"), UNLIMITED)
    not_on_behalf = await store.add(pending("bob", idempotency_key="ann\nm"), UNLIMITED)

    async def found(owner: str, key: str) -> Media | None:
        return await store.find_issued(owner, own_key=key, issuers_key=f"{owner}\n{key}")

    assert await found("ann", "k") == own
    assert await found("ann", "l") == on_behalf
    assert [await found(owner, key) for owner, key in (("bob", "k"), ("bob", "l"), ("ann", "m"))] == [None] * 3
    assert not_on_behalf.issued_by is None


async def test_a_media_is_visible_to_its_owner_and_to_administrators(store: Store) -> None:
    media = await store.add(pending("ann"), UNLIMITED)
    assert await store.get(media.id, None) == media
    for media_id, owner in ((media.id, "bob"), (uuid4(), "ann"), (uuid4(), None)):
        with pytest.raises(MediaNotFound):
            await store.get(media_id, owner)


async def test_a_change_follows_the_table_and_moves_the_usage(store: Store) -> None:
    media = await store.add(pending(promised_size=700), UNLIMITED)
    assert await store.usage("ann") == Usage(pending_count=1, promised_bytes=700, media_count=1)
    promoting = await store.change(media, Event.MATCH, size=700, etag="e")
    assert promoting is not None
    assert (promoting.state, promoting.version, promoting.size) == (State.PROMOTING, 1, 700)
    assert await store.usage("ann") == Usage(pending_count=1, promised_bytes=700, media_count=1)
    ready = await store.change(promoting, Event.PROMOTE, ready_at=datetime.now(UTC), due_at=None)
    assert ready is not None
    assert await store.get(media.id, "ann") == ready
    assert await store.usage("ann") == Usage(stored_bytes=700, media_count=1)
    deleting = await store.change(ready, Event.DELETE)
    assert deleting is not None
    assert await store.usage("ann") == Usage()
    assert await store.get(media.id, "ann") == deleting


async def test_an_illegal_event_changes_nothing(store: Store) -> None:
    media = await store.add(pending(), UNLIMITED)
    with pytest.raises(IllegalTransition):
        await store.change(media, Event.PROMOTE)
    assert await store.get(media.id, None) == media


async def test_an_amendment_keeps_the_state_and_increments_the_version(store: Store) -> None:
    media = await store.add(pending(), UNLIMITED)
    later = media.policy_expires_at + timedelta(hours=1)
    amended = await store.amend(media, policy_expires_at=later)
    assert amended is not None
    assert (amended.state, amended.version, amended.policy_expires_at) == (State.PENDING, 1, later)
    assert await store.get(media.id, None) == amended
    assert await store.amend(media, policy_expires_at=later) is None


@pytest.mark.parametrize("name", ["id", "owner", "state", "version", "created_at", "idempotency_key"])
async def test_identifying_fields_cannot_be_changed(store: Store, name: str) -> None:
    media = await store.add(pending(), UNLIMITED)
    with pytest.raises(ValueError, match=name):
        await store.amend(media, **{name: getattr(media, name)})


async def test_a_change_of_an_unknown_media_is_a_lost_race(store: Store) -> None:
    assert await store.change(pending(), Event.DELETE) is None
    assert await store.usage("ann") == Usage()


async def collection(store: Store) -> list[Media]:
    """Add 5 media of Ann and of Bob in each of five states; return the visible ones of Ann, the newest first."""
    shown = []
    for number in range(25):
        await store.add(pending("bob"), UNLIMITED)
        media = await store.add(pending("ann"), UNLIMITED)
        events = {0: [], 1: [Event.MATCH], 2: [Event.DIFFER], 3: [Event.DELETE], 4: [Event.DELETE, Event.PURGE]}
        for event in events[number % 5]:
            changed = await store.change(media, event)
            assert changed is not None
            media = changed
        if number % 5 < 3:
            shown.append(media)
    return sorted(shown, key=lambda media: media.id, reverse=True)


async def pages(store: Store, owner: str | None, state: State | None, limit: int) -> list[list[Media]]:
    found: list[list[Media]] = []
    while page := await store.list(owner, state=state, limit=limit, before=found[-1][-1].id if found else None):
        found.append(page)
    return found


async def test_pages_run_from_new_to_old_without_a_gap(store: Store) -> None:
    shown = await collection(store)
    found = await pages(store, "ann", None, 4)
    assert [len(page) for page in found] == [4, 4, 4, 3]
    assert [media for page in found for media in page] == shown


@pytest.mark.parametrize("state", list(State))
async def test_a_list_of_one_state_shows_only_that_state(store: Store, state: State) -> None:
    shown = await collection(store)
    found = [media for page in await pages(store, "ann", state, 2) for media in page]
    assert found == [media for media in shown if media.state is state]


async def test_an_administrator_lists_the_media_of_all_owners(store: Store) -> None:
    shown = await collection(store)
    found = [media for page in await pages(store, None, None, 7) for media in page]
    assert len(found) == len(shown) + 25
    assert found == sorted(found, key=lambda media: media.id, reverse=True)


async def test_new_media_do_not_shift_a_page(store: Store) -> None:
    shown = await collection(store)
    first = await store.list("ann", state=None, limit=4, before=None)
    await store.add(pending("ann"), UNLIMITED)
    assert await store.list("ann", state=None, limit=4, before=first[-1].id) == shown[4:8]


async def test_a_repeated_idempotency_key_returns_the_earlier_media(store: Store) -> None:
    first = await store.add(pending(idempotency_key="key", idempotency_digest="one"), UNLIMITED)
    again = await store.add(pending(idempotency_key="key", idempotency_digest="two"), UNLIMITED)
    assert again == first
    assert (await store.usage("ann")).media_count == 1
    elsewhere = await store.add(pending("bob", idempotency_key="key"), UNLIMITED)
    assert elsewhere.id != first.id
    other = await store.add(pending(idempotency_key="other"), UNLIMITED)
    assert other.id != first.id


async def test_a_deleted_media_keeps_its_idempotency_key(store: Store) -> None:
    media = await store.add(pending(idempotency_key="key"), UNLIMITED)
    deleting = await store.change(media, Event.DELETE)
    assert deleting is not None
    tombstone = await store.change(deleting, Event.PURGE)
    assert await store.add(pending(idempotency_key="key"), UNLIMITED) == tombstone
    assert await store.usage("ann") == Usage()


async def test_the_backlog_counts_pending_and_overdue_media(store: Store) -> None:
    assert await store.backlog() == Backlog(0, None, None)
    old, new = [await store.add(pending(owner), UNLIMITED) for owner in ("ann", "bob")]
    assert await store.backlog() == Backlog(2, old.created_at, old.due_at)
    await store.change(old, Event.DELETE, due_at=None)
    assert await store.backlog() == Backlog(1, new.created_at, new.due_at)


async def test_ping_returns_on_a_migrated_database(store: Store) -> None:
    await store.ping()
