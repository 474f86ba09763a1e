"""Measure whether the store stays flat as rows grow: each operation with few rows and with many, and the ratio.

    python -m tests.bench.rows [--database sqlite|postgresql] [--few 1000] [--many 1000000] [--samples 300]

One owner holds a fifth of all rows. The two databases of a kind are measured in turn, sample by sample, so
that whatever else the machine does falls on both. Ends with 1 where a ratio of medians is over 1.5.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from statistics import median
from typing import NamedTuple
from uuid import UUID

import psycopg
import sqlalchemy as sa

from broker.domain.access.quota import Quota, Usage, footprint
from broker.domain.ids import new_id
from broker.domain.media import Media, State
from broker.store import Store, migrate
from broker.store.connections.address import parse_url
from broker.store.prepared import Prepared
from broker.store.schema import media as media_table
from broker.store.schema import usage as usage_table
from tests.support.postgres import PostgreSQL, find_binaries

MOST = 1.5
ANN = "ann"
PAGE = BATCH = 50
START = datetime(2026, 1, 1, tzinfo=UTC)
# What a broker holds after a year: mostly ready media and tombstones, few that wait.
STATES = [State.READY] * 13 + [State.DELETED] * 3 + [State.PENDING] * 2 + [State.REJECTED, State.EXPIRED]


class Loaded(NamedTuple):
    """A store, and ids of Ann's to look up in it."""

    store: Store
    ids: list[UUID]


def history(count: int) -> Iterator[Media]:
    """Return `count` media, one a second from START, each fifth of them Ann's."""
    chance = random.Random(1)  # noqa: S311
    for number in range(count):
        at = START + timedelta(seconds=number)
        state = chance.choice(STATES)
        ready = state is State.READY
        yield Media(
            id=new_id(at),
            owner=ANN if number % 5 == 0 else f"owner-{number % 5000}",
            state=state,
            content_type="video/mp4",
            max_size=100_000_000,
            promised_size=12_345_678,
            filename=f"holiday-{number}.mp4",
            metadata={"album": "summer"},
            created_at=at,
            policy_expires_at=at + timedelta(minutes=15),
            size=12_345_678 if ready else None,
            etag="9bb58f26192e4ba00f01e2e7b136bbd8" if ready else None,
            ready_at=at + timedelta(minutes=1) if ready else None,
            due_at=at + timedelta(minutes=20) if state is State.PENDING else None,
        )


def load(url: str, count: int) -> list[UUID]:
    """Fill the database at `url` with `count` media and their usage; return some ids of Ann's."""
    migrate(url)
    engine = sa.create_engine(parse_url(url))
    used: dict[str, Usage] = {}
    ids: list[UUID] = []
    chance = random.Random(2)  # noqa: S311
    media = history(count)
    with engine.begin() as connection:
        while chunk := list(islice(media, 10_000)):
            for one in chunk:
                used[one.owner] = used.get(one.owner, Usage()) + footprint(one)
            ids += [
                one.id for one in chance.sample([one for one in chunk if one.owner == ANN], min(100, len(chunk) // 5))
            ]
            _copy(connection, chunk)
        connection.execute(
            usage_table.insert(),
            [
                {
                    "owner": owner,
                    "pending_count": usage.pending_count,
                    "promised_bytes": usage.promised_bytes,
                    "stored_bytes": usage.stored_bytes,
                    "media_count": usage.media_count,
                }
                for owner, usage in used.items()
            ],
        )
    if engine.dialect.name == "postgresql":
        # What the server's own autovacuum does a minute later.
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
    engine.dispose()
    return ids


_INSERT = Prepared(media_table.insert())


def _copy(connection: sa.Connection, chunk: list[Media]) -> None:
    rows = [one._asdict() for one in chunk]
    if connection.dialect.name == "sqlite":
        _INSERT.run(connection, rows)
        return
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    names = ", ".join(rows[0])
    with driver.cursor() as cursor, cursor.copy(f"COPY media ({names}) FROM STDIN".encode()) as copy:
        for row in rows:
            row["state"] = row["state"].value
            row["metadata"] = psycopg.types.json.Jsonb(row["metadata"])
            copy.write_row(list(row.values()))


def operations(loaded: Loaded, chance: random.Random) -> dict[str, Callable[[int], Awaitable[object]]]:
    """Return what is measured; each takes the number of the sample."""
    store, ids = loaded.store, loaded.ids
    end = datetime(2028, 1, 1, tzinfo=UTC)

    async def add(number: int) -> object:
        at = START + timedelta(days=400, seconds=number)
        media = Media(
            id=new_id(at),
            owner=ANN,
            content_type="video/mp4",
            max_size=100_000_000,
            created_at=at,
            policy_expires_at=at + timedelta(minutes=15),
            due_at=end + timedelta(days=30),
        )
        return await store.add(media, Quota(pending_count=10**9))

    async def get(number: int) -> object:
        return await store.get(chance.choice(ids), ANN)

    async def first_page(number: int) -> object:
        page = await store.list(ANN, state=None, limit=PAGE, before=None)
        assert len(page) == PAGE
        return page

    async def later_page(number: int) -> object:
        # Not among the oldest, so that the page is full in both databases.
        return await store.list(ANN, state=None, limit=PAGE, before=chance.choice(ids[len(ids) // 2 :]))

    async def page_of_a_state(number: int) -> object:
        return await store.list(ANN, state=State.READY, limit=PAGE, before=None)

    async def claim(number: int) -> object:
        # What was claimed is due again at the next sample, behind what has waited longer.
        now = end + timedelta(seconds=number)
        claimed = await store.claim_due(now, lease_until=now + timedelta(seconds=0.5), limit=BATCH)
        assert len(claimed) == BATCH
        return claimed

    return {
        "issue": add,
        "get": get,
        "list, first page": first_page,
        "list, later page": later_page,
        "list, one state": page_of_a_state,
        "sweep, one batch": claim,
    }


async def compare(kind: str, few: Loaded, many: Loaded, samples: int) -> float:
    """Print the medians in milliseconds, and return the largest ratio."""
    worst = 0.0
    sides = [operations(loaded, random.Random(number)) for number, loaded in enumerate((few, many))]  # noqa: S311
    for name in sides[0]:
        took: list[list[float]] = [[], []]
        for number in range(samples + 20):
            for side in (0, 1):
                started = time.perf_counter()
                await sides[side][name](number)
                took[side].append(time.perf_counter() - started)
        # The first samples fill caches and compile statements.
        low, high = (median(side[20:]) * 1000 for side in took)
        worst = max(worst, high / low)
        print(f"{kind:<11} {name:<17} {low:9.3f} {high:9.3f} {high / low:8.2f}", flush=True)
    return worst


async def measure(kind: str, urls: tuple[str, str], counts: tuple[int, int], samples: int) -> float:
    """Load both databases, compare them, and return the largest ratio."""
    loaded = []
    for url, count in zip(urls, counts, strict=True):
        started = time.perf_counter()
        ids = await asyncio.to_thread(load, url, count)
        print(f"# {kind}: {count:,} rows in {time.perf_counter() - started:.0f} s", file=sys.stderr)
        loaded.append(Loaded(Store(url), ids))
    try:
        return await compare(kind, loaded[0], loaded[1], samples)
    finally:
        for one in loaded:
            await one.store.close()


@contextmanager
def databases(kind: str) -> Iterator[tuple[str, str]]:
    """Return the URLs of two empty databases of a kind."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as directory:
            yield f"sqlite:///{directory}/few.db", f"sqlite:///{directory}/many.db"
        return
    binaries = find_binaries()
    if binaries is None:
        sys.exit("PostgreSQL's server programs are not installed")
    server = PostgreSQL(binaries)
    try:
        server.start()
        yield server.url(server.create()), server.url(server.create())
    finally:
        server.remove()


def main() -> None:
    """Read the arguments and measure each database."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], action="append")
    parser.add_argument("--few", type=int, default=1000)
    parser.add_argument("--many", type=int, default=1_000_000)
    parser.add_argument("--samples", type=int, default=300)
    arguments = parser.parse_args()
    counts = (arguments.few, arguments.many)
    print(f"{'database':<11} {'operation':<17} {counts[0]:>9,} {counts[1]:>9,} {'ratio':>8}   (medians in ms)")
    worst = 0.0
    for kind in arguments.database or ["sqlite", "postgresql"]:
        with databases(kind) as urls:
            worst = max(worst, asyncio.run(measure(kind, urls, counts, arguments.samples)))
    print(f"largest ratio {worst:.2f}, at most {MOST} is allowed")
    sys.exit(worst > MOST)


if __name__ == "__main__":
    main()
