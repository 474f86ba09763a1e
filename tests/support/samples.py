"""Media to record, a way to hold a database still, and to see who waits for it."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from sqlalchemy import make_url

from broker.domain.access.quota import Quota
from broker.domain.ids import new_id
from broker.domain.media import Media

UNLIMITED = Quota()


def pending(owner: str = "ann", **fields: Any) -> Media:
    """Return a media that was just issued to `owner`, promised 1,000 bytes."""
    now = datetime.now(UTC)
    promised: dict[str, Any] = {
        "id": new_id(now),
        "content_type": "video/mp4",
        "max_size": 1000,
        "created_at": now,
        "policy_expires_at": now + timedelta(minutes=15),
        "due_at": now + timedelta(minutes=20),
    }
    return Media(owner=owner, **(promised | fields))


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Keep everybody else from writing to the database at `url`; reading goes on."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(str(parsed.database), isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")
    else:
        with psycopg.connect(url) as connection_:
            connection_.execute("LOCK TABLE broker_usage, broker_media IN EXCLUSIVE MODE")
            yield


async def until_a_session_waits(database_url: str) -> None:
    """Return once a connection to the database waits for a lock."""
    await until_sessions_wait(database_url, 1)


async def until_sessions_wait(database_url: str, count: int) -> None:
    """Return once `count` connections to the database wait for locks, or more."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as watching:
        while (await (await watching.execute(waiting)).fetchone() or (0,))[0] < count:
            await asyncio.sleep(0.01)


async def statistic(database_url: str, query: str) -> object:
    """Return a value of PostgreSQL's statistics once every other connection to the database has ended.

    A connection adds what it counted when it ends, which is a moment after its client has closed it.
    """
    here = "datname = current_database() AND backend_type = 'client backend'"
    clients = f"SELECT count(*) FROM pg_stat_activity WHERE {here}"  # noqa: S608 a test's own
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as watching:
        while await (await watching.execute(clients)).fetchone() != (1,):
            await asyncio.sleep(0.01)
        row = await (await watching.execute(query)).fetchone()
    assert row is not None
    return row[0]
