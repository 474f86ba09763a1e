"""Concurrent operations: exactly one wins, and quotas are exact to the byte."""

import asyncio
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any

import psycopg
import pytest

from broker.domain.access.quota import Quota, Usage, footprint
from broker.domain.media import TRANSITIONS, Event, Media, State
from broker.domain.parts import MIB
from broker.errors import BrokerError, DatabaseUnavailable, QuotaExceeded
from broker.store import Store, migrate
from tests.contract.conftest import OpenStore
from tests.support.samples import UNLIMITED, locked, pending


async def sums(store: Store, owner: str, ids: set[object]) -> Usage:
    """Return the usage of `owner`, counted from the rows."""
    rows = [await store.get(media_id, owner) for media_id in ids]  # type: ignore[arg-type]
    return reduce(Usage.__add__, map(footprint, rows), Usage())


@pytest.mark.parametrize("replicas", [1, 2])
async def test_of_a_hundred_changes_exactly_one_wins(open_store: OpenStore, replicas: int) -> None:
    stores = [open_store() for _ in range(replicas)]
    media = await stores[0].add(pending(), UNLIMITED)
    events = [Event.MATCH, Event.DIFFER, Event.EXPIRE, Event.DELETE]
    ends = await asyncio.gather(
        *(stores[number % replicas].change(media, events[number % len(events)]) for number in range(100))
    )
    winners = [end for end in ends if end is not None]
    assert len(winners) == 1
    assert await stores[0].get(media.id, None) == winners[0]
    assert await stores[0].usage("ann") == footprint(winners[0])


async def test_of_a_hundred_amendments_exactly_one_wins(open_store: OpenStore) -> None:
    stores = [open_store(), open_store()]
    for _ in range(5):
        media = await stores[0].add(pending(), UNLIMITED)
        ends = await asyncio.gather(*(stores[n % 2].amend(media, etag=f"etag-{n}") for n in range(100)))
        winners = [end for end in ends if end is not None]
        assert winners == [await stores[1].get(media.id, None)]


@pytest.mark.parametrize(
    ("quota", "fit"),
    [
        (Quota(pending_count=10), 10),
        (Quota(media_count=7), 7),
        (Quota(promised_bytes=3999), 3),
        (Quota(stored_bytes=5000), 5),
        (Quota(), 60),
    ],
    ids=str,
)
async def test_a_quota_is_exact_across_replicas(open_store: OpenStore, quota: Quota, fit: int) -> None:
    stores = [open_store(), open_store()]
    ends = await asyncio.gather(
        *(stores[number % 2].add(pending(), quota) for number in range(60)), return_exceptions=True
    )
    added = [end for end in ends if isinstance(end, Media)]
    refused = [end for end in ends if isinstance(end, QuotaExceeded)]
    assert (len(added), len(refused)) == (fit, 60 - fit)
    assert await stores[0].usage("ann") == Usage(pending_count=fit, promised_bytes=1000 * fit, media_count=fit)
    assert len(await stores[1].list("ann", state=None, limit=100, before=None)) == fit


async def test_a_media_over_quota_leaves_room_for_others_that_fit(store: Store) -> None:
    asked = [
        ("ann", 1000, None),
        ("ann", 3000, "twice"),
        ("bob", 2500, None),
        ("ann", 3000, "twice"),
        ("ann", 1500, "once"),
        ("ann", 1500, "once"),
    ]
    ends = await asyncio.gather(
        *(
            store.add(pending(owner, promised_size=size, idempotency_key=key), Quota(promised_bytes=2500))
            for owner, size, key in asked
        ),
        return_exceptions=True,
    )
    assert [type(end) for end in ends] == [Media, QuotaExceeded, Media, QuotaExceeded, Media, Media]
    assert ends[4] == ends[5]
    assert [end.facts["asked"] for end in ends if isinstance(end, QuotaExceeded)] == [3000, 3000]
    assert not any(end.__context__ for end in ends if isinstance(end, QuotaExceeded))
    assert (await store.usage("ann")).promised_bytes == (await store.usage("bob")).promised_bytes == 2500


async def test_a_repetition_of_a_refused_request_is_judged_by_itself(store: Store) -> None:
    asked = [3000, 500, 3000, 700]
    ends = await asyncio.gather(
        *(store.add(pending(promised_size=size, idempotency_key="one"), Quota(promised_bytes=2500)) for size in asked),
        return_exceptions=True,
    )
    assert isinstance(ends[0], QuotaExceeded)
    assert ends[0].facts["asked"] == 3000
    assert [end.promised_size for end in ends[1:] if isinstance(end, Media)] == [500, 500, 500]
    assert await store.usage("ann") == Usage(pending_count=1, promised_bytes=500, media_count=1)


async def test_each_media_is_judged_by_its_own_quota(store: Store) -> None:
    ends = await asyncio.gather(
        *(store.add(pending(), Quota(pending_count=count)) for count in (9, 1, 9, 0)), return_exceptions=True
    )
    assert [type(end) for end in ends] == [Media, QuotaExceeded, Media, QuotaExceeded]


async def test_an_exceeded_quota_names_the_numbers(store: Store) -> None:
    quota = Quota(promised_bytes=2500)
    for _ in range(2):
        await store.add(pending(), quota)
    with pytest.raises(QuotaExceeded) as refusal:
        await store.add(pending(), quota)
    assert refusal.value.facts == {"quota": "promised_bytes", "limit": 2500, "used": 2000, "asked": 1000}
    await store.add(pending("bob"), quota)


async def test_usage_equals_the_rows_after_any_mixture_of_operations(open_store: OpenStore) -> None:
    stores = [open_store(), open_store()]
    chance = random.Random(7)  # noqa: S311
    quota = Quota(pending_count=6, media_count=12)
    owners = ("ann", "bob", "cleo")
    ids: dict[str, set[object]] = {owner: set() for owner in owners}
    refusals = 0

    async def act(number: int) -> None:
        nonlocal refusals
        store, owner = stores[number % 2], owners[number % 3]
        for _ in range(25):
            known = await store.list(owner, state=None, limit=20, before=None)
            if not known or chance.random() < 0.5:
                try:
                    added = await store.add(
                        pending(
                            owner, promised_size=chance.randrange(1, 1000), idempotency_key=chance.choice([None, "k"])
                        ),
                        quota,
                    )
                    ids[owner].add(added.id)
                except QuotaExceeded:
                    refusals += 1
                continue
            media = chance.choice(known)
            event = chance.choice([row.event for row in TRANSITIONS if row.source is media.state])
            await store.change(media, event, size=media.promised_size)

    await asyncio.gather(*map(act, range(12)))
    assert refusals
    for owner in owners:
        assert await stores[0].usage(owner) == await sums(stores[1], owner, ids[owner])


@pytest.mark.parametrize("replicas", [1, 2])
async def test_concurrent_requests_with_one_idempotency_key_make_one_media(
    open_store: OpenStore, replicas: int
) -> None:
    stores = [open_store() for _ in range(replicas)]
    ends = await asyncio.gather(
        *(stores[number % replicas].add(pending(idempotency_key="key"), UNLIMITED) for number in range(40))
    )
    assert len({media.id for media in ends}) == 1
    assert await stores[0].usage("ann") == footprint(ends[0])


async def test_batches_with_owners_in_opposite_order_do_not_deadlock(open_store: OpenStore) -> None:
    stores = [open_store(), open_store()]
    owners = [f"owner-{number:02}" for number in range(30)]

    async def add_all(store: Store, order: list[str]) -> None:
        await asyncio.gather(*(store.add(pending(owner), UNLIMITED) for owner in order))

    for _ in range(10):
        await asyncio.gather(add_all(stores[0], owners), add_all(stores[1], owners[::-1]))
    usages = [await stores[0].usage(owner) for owner in owners]
    assert {usage.media_count for usage in usages} == {20}


async def test_a_failing_operation_fails_no_other_of_its_batch(store: Store, database_url: str) -> None:
    known = await store.add(pending("zoe"), UNLIMITED)
    naive = datetime(2026, 6, 1)  # noqa: DTZ001
    with locked(database_url):
        # While the database is locked, all of these gather in one batch.
        asked = [
            store.add(pending(due_at=naive), UNLIMITED),
            store.add(known, UNLIMITED),
            store.add(pending(), Quota(media_count=0)),
            store.change(pending(), Event.DELETE),
            *(store.add(pending(f"owner-{number}"), UNLIMITED) for number in range(20)),
            store.change(known, Event.MATCH),
        ]
        tasks = [asyncio.create_task(operation) for operation in asked]
        await asyncio.sleep(0.1)
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(ends[0], ValueError)
    assert isinstance(ends[1], Exception)
    assert not isinstance(ends[1], BrokerError)
    assert isinstance(ends[2], QuotaExceeded)
    assert ends[3] is None
    assert all(isinstance(end, Media) for end in ends[4:])
    assert await store.usage("zoe") == footprint(known)
    assert await store.usage("owner-7") == footprint(pending())


async def test_concurrent_claims_do_not_overlap(open_store: OpenStore) -> None:
    stores = [open_store(), open_store()]
    now = datetime.now(UTC)
    lease = now + timedelta(minutes=5)
    due = [pending(f"owner-{n % 5}", due_at=now - timedelta(seconds=n)) for n in range(150)]
    later = [pending(due_at=now + timedelta(seconds=1)), pending(due_at=None)]
    await asyncio.gather(*(stores[0].add(media, UNLIMITED) for media in due + later))
    claimed: list[Media] = []

    async def claim(store: Store) -> None:
        while mine := await store.claim_due(now, lease_until=lease, limit=7):
            assert len(mine) <= 7
            claimed.extend(mine)

    await asyncio.gather(*(claim(stores[number % 2]) for number in range(8)))
    assert Counter(media.id for media in claimed) == Counter(media.id for media in due)
    assert {media.due_at for media in claimed} == {lease}
    assert await stores[1].get(claimed[0].id, None) == claimed[0]
    assert await stores[0].claim_due(now, lease_until=lease, limit=7) == []
    assert len(await stores[0].claim_due(lease, lease_until=lease, limit=500)) == 151


async def test_a_claim_skips_locked_rows(postgresql_url: str) -> None:
    migrate(postgresql_url)
    store = Store(postgresql_url, timeout_seconds=2)
    now = datetime.now(UTC)
    held, free = [await store.add(pending(due_at=now), UNLIMITED) for _ in range(2)]
    with psycopg.connect(postgresql_url) as someone_else:
        someone_else.execute("SELECT FROM broker_media WHERE id = %s FOR UPDATE", [held.id])
        claimed = await store.claim_due(now, lease_until=now + timedelta(minutes=1), limit=10)
    assert [media.id for media in claimed] == [free.id]
    await store.close()


async def test_the_longest_overdue_media_is_claimed_first(store: Store) -> None:
    now = datetime.now(UTC)
    media = [pending(due_at=now - timedelta(seconds=seconds)) for seconds in (1, 3, 2, 4)]
    for one in media:
        await store.add(one, UNLIMITED)
    claimed = await store.claim_due(now, lease_until=now + timedelta(minutes=1), limit=2)
    assert {one.id for one in claimed} == {media[3].id, media[1].id}


async def test_a_caller_that_does_not_compose_claims_all_but_what_may_be_composed(store: Store) -> None:
    now = datetime.now(UTC)
    in_parts: dict[str, Any] = {"part_size": 5 * MIB, "promised_size": 6 * MIB, "due_at": now}
    stray: dict[str, Any] = {"due_at": now + timedelta(hours=1)}
    to_compose = [
        *(pending(**in_parts, state=state) for state in (State.PENDING, State.PROMOTING, State.EXPIRED)),
        pending(**in_parts | stray, state=State.PROMOTING),
    ]
    others = [
        *(pending(**in_parts, state=state) for state in (State.READY, State.REJECTED, State.DELETING, State.DELETED)),
        pending(due_at=now),
        pending(**stray, state=State.PROMOTING),
    ]
    for media in to_compose + others:
        await store.add(media, UNLIMITED)
    for composes, due in ((False, others), (True, to_compose)):
        claimed = await store.claim_due(now, lease_until=now + timedelta(minutes=1), limit=20, composes=composes)
        assert {media.id for media in claimed} == {media.id for media in due}


async def test_a_claim_invalidates_earlier_decisions(store: Store) -> None:
    now = datetime.now(UTC)
    media = await store.add(pending(due_at=now), UNLIMITED)
    [claimed] = await store.claim_due(now, lease_until=now + timedelta(minutes=1), limit=1)
    assert claimed.version == media.version + 1
    assert await store.change(media, Event.EXPIRE) is None
    expired = await store.change(claimed, Event.EXPIRE, due_at=None)
    assert expired is not None
    assert expired.state is State.EXPIRED


async def test_no_operation_returns_before_its_commit(store: Store, database_url: str) -> None:
    media = pending()
    with locked(database_url):
        adding = asyncio.create_task(store.add(media, UNLIMITED))
        await asyncio.sleep(0.3)
        assert not adding.done()
    assert await adding == media


async def test_a_cancelled_caller_fails_no_other_caller(store: Store, database_url: str) -> None:
    with locked(database_url):
        tasks = [asyncio.create_task(store.add(pending(), UNLIMITED)) for _ in range(30)]
        await asyncio.sleep(0.1)
        gone = tasks[::3]
        for task in gone:
            task.cancel()
        await asyncio.sleep(0.05)
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(end, Media) for end in ends) == 20
    recorded = await store.list("ann", state=None, limit=50, before=None)
    assert {end.id for end in ends if isinstance(end, Media)} <= {media.id for media in recorded}
    assert (await store.usage("ann")).media_count == len(recorded)


async def test_closing_finishes_submitted_operations(open_store: OpenStore, database_url: str) -> None:
    store = open_store()
    with locked(database_url):
        tasks = [asyncio.create_task(store.add(pending(), UNLIMITED)) for _ in range(300)]
        await asyncio.sleep(0.1)
        closing = asyncio.create_task(store.close())
        await asyncio.sleep(0.1)
        assert not closing.done()
    await closing
    assert all(isinstance(end, Media) for end in await asyncio.gather(*tasks))
    with pytest.raises(DatabaseUnavailable):
        await store.add(pending(), UNLIMITED)
    assert (await open_store().usage("ann")).media_count == 300


async def test_one_store_serves_several_event_loops(store: Store) -> None:
    def add_some() -> list[Media]:
        async def add() -> list[Media]:
            return await asyncio.gather(*(store.add(pending(), UNLIMITED) for _ in range(20)))

        return asyncio.run(add())

    ends = await asyncio.gather(*(asyncio.to_thread(add_some) for _ in range(3)), store.add(pending(), UNLIMITED))
    assert (await store.usage("ann")).media_count == 61
    assert len(ends) == 4
