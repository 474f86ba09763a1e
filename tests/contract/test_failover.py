"""A failover of PostgreSQL: a primary and a synchronous standby, both named in the URL of each replica."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from uuid import UUID

import pytest

from broker.errors import DatabaseUnavailable
from broker.store import Store, migrate
from tests.support.postgres import PostgreSQL, find_binaries
from tests.support.samples import UNLIMITED, pending

SERVES_AGAIN_SECONDS = 10.0
WRITERS = 8


@pytest.fixture
def pair(postgresql: PostgreSQL) -> Iterator[tuple[PostgreSQL, PostgreSQL]]:
    """Run a primary whose commits wait for its standby."""
    binaries = find_binaries()
    assert binaries is not None, "the fixture of the shared server has found them"
    with ExitStack() as stack:
        primary = PostgreSQL(binaries)
        stack.callback(primary.remove)
        primary.start()
        standby = PostgreSQL(binaries, standby_of=primary)
        stack.callback(standby.remove)
        standby.start()
        primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.execute("SELECT pg_reload_conf()")
        yield primary, standby


async def test_a_failover_loses_no_acknowledged_media_and_needs_no_restart(
    pair: tuple[PostgreSQL, PostgreSQL],
) -> None:
    primary, standby = pair
    name = primary.create()
    migrate(primary.url(name))
    url = f"postgresql://broker@/{name}?host=127.0.0.1,127.0.0.1&port={primary.port},{standby.port}"
    replicas = [Store(url, timeout_seconds=2) for _ in range(2)]
    acknowledged: list[list[UUID]] = [[] for _ in replicas]
    stopped = asyncio.Event()

    async def write(number: int) -> None:
        while not stopped.is_set():
            media = pending()
            try:
                await replicas[number].add(media, UNLIMITED)
            except DatabaseUnavailable:
                await asyncio.sleep(0.05)
            else:
                acknowledged[number].append(media.id)

    async def until_more(count: int) -> None:
        goal = [len(ids) + count for ids in acknowledged]
        while any(len(ids) < number for ids, number in zip(acknowledged, goal, strict=True)):
            await asyncio.sleep(0.05)

    writing = [asyncio.create_task(write(number)) for number in range(len(replicas)) for _ in range(WRITERS)]
    async with asyncio.timeout(60):
        await until_more(100)
    await asyncio.to_thread(primary.stop, at_once=True)
    before = sum(map(len, acknowledged))
    await asyncio.to_thread(standby.execute, "SELECT pg_promote()")
    promoted_at = time.monotonic()
    async with asyncio.timeout(60):
        await until_more(20)
    assert time.monotonic() - promoted_at < SERVES_AGAIN_SECONDS
    stopped.set()
    await asyncio.gather(*writing)
    assert sum(map(len, acknowledged)) >= before + 40
    for replica, ids in zip(replicas, acknowledged, strict=True):
        for media_id in ids:
            assert (await replica.get(media_id, "ann")).id == media_id
        await replica.close()
