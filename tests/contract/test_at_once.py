"""New media on PostgreSQL: one statement for all that are within the quota, and no deadlocks."""

import asyncio
import random
import secrets
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from functools import reduce
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from broker.domain.access.quota import Quota, Usage, footprint
from broker.domain.media import Event, Media
from broker.store import Store, migrate
from tests.contract.conftest import OpenStore
from tests.support.postgres import PostgreSQL
from tests.support.samples import UNLIMITED, pending, statistic, until_a_session_waits

LIMITED = Quota(pending_count=4, promised_bytes=9000, stored_bytes=9000, media_count=5)


@pytest.fixture
def kind() -> str:
    return "postgresql"


@contextmanager
def statements(store: Store) -> Iterator[list[str]]:
    """Collect the first word of each statement of the writing connection."""
    found: list[str] = []

    def collect(*arguments: Any) -> None:
        found.append(arguments[2].split()[0])

    engine = store._writing
    sa.event.listen(engine, "before_cursor_execute", collect)
    yield found
    sa.event.remove(engine, "before_cursor_execute", collect)


async def test_media_within_the_quota_take_one_statement_for_new_and_known_owners(store: Store) -> None:
    await store.add(pending("ann"), UNLIMITED)
    with statements(store) as written:
        added = [pending(owner, idempotency_key=key) for owner in ("bob", "ann", "cid") for key in (None, owner)]
        assert await asyncio.gather(*(store.add(one, LIMITED) for one in added)) == added
    assert written == ["WITH"]
    assert await store.usage("ann") == Usage(pending_count=3, promised_bytes=3000, media_count=3)
    assert await store.usage("bob") == Usage(pending_count=2, promised_bytes=2000, media_count=2)


@pytest.mark.parametrize(
    ("quota", "fit"),
    [
        (Quota(pending_count=2), 2),
        (Quota(promised_bytes=2999), 2),
        (Quota(stored_bytes=2999), 2),
        (Quota(media_count=2), 2),
        (Quota(media_count=0), 0),
        (Quota(stored_bytes=10**30), 4),
    ],
    ids=str,
)
@pytest.mark.parametrize("before", [0, 1])
async def test_neither_a_new_owner_nor_a_known_one_exceeds_a_limit(
    store: Store, quota: Quota, fit: int, before: int
) -> None:
    for _ in range(before):
        await store.add(pending(), UNLIMITED)
    ends = await asyncio.gather(*(store.add(pending(), quota) for _ in range(4)), return_exceptions=True)
    fitting = min(4, max(0, fit - before)) if fit < 4 else 4
    assert [isinstance(end, Media) for end in ends] == [True] * fitting + [False] * (4 - fitting)
    assert await store.usage("ann") == Usage(before + fitting, 1000 * (before + fitting), 0, before + fitting)


async def test_a_used_key_returns_the_earlier_media(store: Store) -> None:
    earlier = await store.add(pending(idempotency_key="one"), UNLIMITED)
    with statements(store) as written:
        fresh = pending()
        ends = await asyncio.gather(store.add(fresh, UNLIMITED), store.add(pending(idempotency_key="one"), UNLIMITED))
    assert [*ends] == [fresh, earlier]
    assert written[0] == "WITH"
    assert await store.usage("ann") == Usage(pending_count=2, promised_bytes=2000, media_count=2)


async def test_a_used_key_costs_the_rest_of_its_batch_no_row(store: Store, database_url: str) -> None:
    await store.add(pending(idempotency_key="one"), UNLIMITED)
    for _ in range(3):
        await asyncio.gather(
            *(store.add(pending(), UNLIMITED) for _ in range(20)),
            store.add(pending(idempotency_key="one"), UNLIMITED),
        )
    await store.close()
    inserted = "SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'broker_media'"
    assert await statistic(database_url, inserted) == 61


def insert(owner: str) -> str:
    """Return the statement by which another transaction inserts an owner's row."""
    return f"INSERT INTO broker_usage VALUES ('{owner}', 0, 0, 0, 0) ON CONFLICT DO NOTHING"  # noqa: S608 a test's own


async def test_the_ledger_locks_no_new_owner_while_it_waits_for_a_known_one(store: Store, database_url: str) -> None:
    changed, deleted = [await store.add(pending("a known one"), UNLIMITED) for _ in range(2)]
    with psycopg.connect(database_url) as other:
        other.execute("SET deadlock_timeout = '60s'")

        def hold(*arguments: Any) -> None:
            if "INSERT INTO broker_usage" in arguments[2]:
                other.execute("SELECT 1 FROM broker_usage WHERE owner = 'a known one' FOR UPDATE")

        sa.event.listen(store._writing, "before_cursor_execute", hold)
        asked = asyncio.gather(
            store.add(pending("some new one"), UNLIMITED),
            store.change(changed, Event.DELETE),
            store.change(deleted, Event.DELETE),
        )
        await until_a_session_waits(database_url)
        other.execute("SET lock_timeout = '500ms'")
        await asyncio.to_thread(other.execute, insert("some new one"))
    assert all(await asked)


async def test_an_owner_that_is_erased_while_its_row_is_opened_is_opened_again(store: Store, database_url: str) -> None:
    changed = await store.add(pending("a known one"), UNLIMITED)
    opened = 0
    with psycopg.connect(database_url, autocommit=True) as other:

        def erase(*arguments: Any) -> None:
            nonlocal opened
            if "INSERT INTO broker_usage" in arguments[2]:
                opened += 1
            elif opened == 1 and "FOR UPDATE" in arguments[2]:
                other.execute("DELETE FROM broker_usage WHERE owner = 'some new one'")

        sa.event.listen(store._writing, "before_cursor_execute", erase)
        added = pending("some new one")
        asked = await asyncio.gather(store.add(added, UNLIMITED), store.change(changed, Event.DELETE))
    assert (asked[0], opened) == (added, 2)
    assert (await store.usage("some new one")).media_count == 1


@pytest.fixture
def sorted_as_in_a_dictionary(postgresql: PostgreSQL) -> Iterator[str]:
    """Return the URL of a database whose collation mixes small and capital letters."""
    name = f"test_{secrets.token_hex(6)}"
    postgresql.execute(f"CREATE DATABASE {name} TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'")
    yield postgresql.url(name)
    postgresql.drop(name)


async def test_new_owners_are_inserted_in_the_order_of_the_database(sorted_as_in_a_dictionary: str) -> None:
    migrate(sorted_as_in_a_dictionary)
    store = Store(sorted_as_in_a_dictionary)
    changed = await store.add(pending("known"), UNLIMITED)
    with psycopg.connect(sorted_as_in_a_dictionary) as other:
        other.execute("SET deadlock_timeout = '60s'")
        other.execute(insert("a"))
        added = [pending("B"), pending("a")]
        asked = asyncio.gather(store.change(changed, Event.DELETE), *(store.add(one, UNLIMITED) for one in added))
        await until_a_session_waits(sorted_as_in_a_dictionary)
        other.execute("SET lock_timeout = '500ms'")
        # The known owner is not locked meanwhile, or the two would wait for each other.
        other.execute("SELECT 1 FROM broker_usage WHERE owner = 'known' FOR UPDATE")
        await asyncio.to_thread(other.execute, insert("B"))
    assert (await asked)[1:] == added
    await store.close()


async def soon(seconds: float, asked: list[Coroutine[Any, Any, Any]]) -> None:
    """Start all coroutines together after `seconds`."""
    await asyncio.sleep(seconds)
    await asyncio.gather(*asked)


async def test_replicas_never_deadlock(open_store: OpenStore, database_url: str) -> None:
    chance = random.Random(7)  # noqa: S311
    stores = [open_store(timeout_seconds=30) for _ in range(3)]
    known = [f"{letter} known" for letter in "abcdefgh"]
    recorded = [await stores[0].add(pending(owner), UNLIMITED) for owner in known]
    for number in range(60):
        owners = known + [f"{letter} new in round {number}" for letter in "abcdefgh"]
        # Two replicas add media by one statement each; the third also changes some, through the ledger.
        added = [[pending(owner) for owner in chance.sample(owners, len(owners))] for _ in stores]
        changed = chance.sample(recorded, 2)
        asked: list[list[Coroutine[Any, Any, Media | None]]] = [
            [store.add(one, UNLIMITED) for one in media] for store, media in zip(stores, added, strict=True)
        ]
        asked[2] += [stores[2].change(one, Event.DELETE) for one in changed]
        await asyncio.gather(*(soon(chance.uniform(0, 0.004), one) for one in asked))
        recorded = [one for one in recorded if one not in changed] + added[0][:4]
    for owner in known:
        rows = await stores[0].list(owner, state=None, limit=1000, before=None)
        assert await stores[1].usage(owner) == reduce(Usage.__add__, map(footprint, rows), Usage())
    for store in stores:
        await store.close()
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert await statistic(database_url, deadlocks) == 0
