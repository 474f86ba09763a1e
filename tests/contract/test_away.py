"""An unavailable database: operations fail in time, and acknowledged data survives."""

import asyncio
import signal
import sys
import time
from uuid import UUID

import pytest
import sqlalchemy as sa

from broker.domain.access.quota import Usage
from broker.domain.media import Event, Media
from broker.errors import DatabaseUnavailable
from broker.store import Store, migrate
from broker.store.connections.address import parse_url
from tests.contract.conftest import OpenStore
from tests.support.postgres import PostgreSQL
from tests.support.samples import UNLIMITED, locked, pending

ADD_FOREVER = """
import asyncio, sys
from broker.store import Store
from tests.support.samples import UNLIMITED, pending

async def add(store):
    while True:
        media = await store.add(pending(), UNLIMITED)
        sys.stdout.write(f"{media.id}\\n")
        sys.stdout.flush()

async def main():
    store = Store(sys.argv[1])
    await asyncio.gather(*(add(store) for _ in range(16)))

asyncio.run(main())
"""


async def test_acknowledged_media_survive_the_death_of_the_process(store: Store, database_url: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ADD_FOREVER, database_url, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    lines = [await process.stdout.readline() for _ in range(200)]
    process.kill()
    lines += (await process.stdout.read()).splitlines(keepends=True)
    assert await process.wait() == -signal.SIGKILL
    acknowledged = {UUID(line.decode().strip()) for line in lines if line.endswith(b"\n")}
    assert len(acknowledged) >= 200
    for media_id in acknowledged:
        assert (await store.get(media_id, "ann")).id == media_id

    async def recorded() -> int:
        page, count = await store.list("ann", state=None, limit=1000, before=None), 0
        while page:
            count += len(page)
            page = await store.list("ann", state=None, limit=1000, before=page[-1].id)
        return count

    # PostgreSQL may still be running the last statement of the dead process.
    async with asyncio.timeout(20):
        while (await store.usage("ann")).media_count != await recorded():
            await asyncio.sleep(0.05)


async def test_a_database_locked_beyond_the_timeout_is_unavailable_until_it_is_free(
    open_store: OpenStore, database_url: str
) -> None:
    store = open_store(timeout_seconds=0.3)
    media = await store.add(pending(), UNLIMITED)
    with locked(database_url):
        started = time.monotonic()
        ends = await asyncio.gather(
            *(store.add(pending(), UNLIMITED) for _ in range(20)),
            store.change(media, Event.DELETE),
            return_exceptions=True,
        )
        assert time.monotonic() - started < 20 * 0.3  # they wait together, not one after the other
        assert all(isinstance(end, DatabaseUnavailable) for end in ends)
        assert await store.get(media.id, "ann") == media
    await store.add(pending(), UNLIMITED)
    assert await store.usage("ann") == Usage(pending_count=2, promised_bytes=2000, media_count=2)


async def test_a_missing_database_is_unavailable(kind: str) -> None:
    url = {"sqlite": "sqlite:////no/such/directory/broker.db", "postgresql": "postgresql://127.0.0.1:1/broker"}[kind]
    store = Store(url, timeout_seconds=1)
    for asked in (store.ping(), store.add(pending(), UNLIMITED), store.usage("ann")):
        with pytest.raises(DatabaseUnavailable):
            await asked
    await store.close()


async def test_a_database_without_tables_is_unavailable_until_it_is_migrated(empty_urls: tuple[str, str]) -> None:
    store = Store(empty_urls[0], timeout_seconds=2)
    for asked in (store.ping(), store.add(pending(), UNLIMITED), store.usage("ann"), store.ping()):
        with pytest.raises(DatabaseUnavailable):
            await asked
    migrate(empty_urls[0])
    await store.ping()
    await store.close()


async def test_a_database_that_lacks_a_column_is_unavailable(database_url: str) -> None:
    engine = sa.create_engine(parse_url(database_url))
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE broker_media DROP COLUMN height"))
    engine.dispose()
    store = Store(database_url, timeout_seconds=2)
    with pytest.raises(DatabaseUnavailable):
        await store.ping()
    await store.close()


@pytest.mark.parametrize("at_once", [False, True], ids=["stopped", "crashed"])
async def test_the_store_recovers_when_postgresql_comes_back(
    restarted_postgresql: PostgreSQL, migrated_template: str, at_once: bool
) -> None:
    server = restarted_postgresql
    store = Store(server.url(server.create(migrated_template)), timeout_seconds=2)
    media = await store.add(pending(), UNLIMITED)
    server.stop(at_once=at_once)
    for asked in (
        store.add(pending(), UNLIMITED),
        store.get(media.id, None),
        store.ping(),
        store.list("ann", state=None, limit=1, before=None),
    ):
        with pytest.raises(DatabaseUnavailable):
            await asked
    server.start()
    assert await store.get(media.id, "ann") == media
    assert await store.change(media, Event.DELETE) is not None
    await store.close()


async def test_connections_that_died_in_the_pool_are_replaced_unnoticed(
    restarted_postgresql: PostgreSQL, migrated_template: str
) -> None:
    server = restarted_postgresql
    store = Store(server.url(server.create(migrated_template)), timeout_seconds=2)
    media = await store.add(pending(), UNLIMITED)
    await store.ping()
    server.stop()
    server.start()
    assert await store.get(media.id, None) == media
    assert await store.change(media, Event.DELETE) is not None
    await store.close()


async def test_operations_that_a_restart_interrupts_fail_and_are_counted_correctly(
    restarted_postgresql: PostgreSQL, migrated_template: str
) -> None:
    server = restarted_postgresql
    store = Store(server.url(server.create(migrated_template)), timeout_seconds=2)
    acknowledged: list[Media] = []
    refused = 0
    stopping = asyncio.Event()

    async def add_on() -> None:
        nonlocal refused
        while not stopping.is_set():
            try:
                acknowledged.append(await store.add(pending(), UNLIMITED))
            except DatabaseUnavailable:
                refused += 1
                await asyncio.sleep(0.01)

    adding = [asyncio.create_task(add_on()) for _ in range(16)]
    async with asyncio.timeout(200):
        while len(acknowledged) < 100:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(server.stop, at_once=True)
        while not refused:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(server.start)
        before = len(acknowledged)
        while len(acknowledged) < before + 100:
            await asyncio.sleep(0.01)
    stopping.set()
    await asyncio.gather(*adding)
    for media in acknowledged:
        assert await store.get(media.id, "ann") == media
    await store.close()
