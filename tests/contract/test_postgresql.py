"""Behavior of PostgreSQL alone: read-only standbys, deadlocks, and a stricter default isolation."""

import asyncio

import psycopg
import pytest

from broker.domain.access.quota import Usage
from broker.domain.media import Event
from broker.errors import DatabaseUnavailable
from broker.store import Store
from tests.support.samples import UNLIMITED, pending, until_a_session_waits


@pytest.fixture
def kind() -> str:
    return "postgresql"


def set_default(url: str, setting: str, value: str) -> None:
    """Set defaults for every new session of the database."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET {setting} = '{value}'".encode())


async def test_a_read_only_server_is_unavailable_until_a_writable_one_answers(database_url: str) -> None:
    # After a failover a name may still lead to the old primary, which is now a standby and accepts connections.
    set_default(database_url, "default_transaction_read_only", "on")
    store = Store(database_url, timeout_seconds=2)
    for asked in (store.add(pending(), UNLIMITED), store.ping()):
        with pytest.raises(DatabaseUnavailable):
            await asked
    set_default(database_url, "default_transaction_read_only", "off")
    media = await store.add(pending(), UNLIMITED)
    assert await store.get(media.id, "ann") == media
    await store.close()


async def test_a_stricter_default_isolation_fails_no_operation(database_url: str) -> None:
    set_default(database_url, "default_transaction_isolation", "serializable")
    stores = [Store(database_url) for _ in range(3)]
    await asyncio.gather(*(store.add(pending(), UNLIMITED) for store in stores * 50))
    assert await stores[0].usage("ann") == Usage(pending_count=150, promised_bytes=150_000, media_count=150)
    for store in stores:
        await store.close()


async def test_a_transaction_that_lost_a_deadlock_is_retried(database_url: str) -> None:
    store = Store(database_url, timeout_seconds=10)
    media = await store.add(pending(), UNLIMITED)
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await other.execute("SET deadlock_timeout = '60s'")
        await other.execute("SELECT 1 FROM broker_media FOR UPDATE")
        changing = asyncio.create_task(store.change(media, Event.EXPIRE))
        # PostgreSQL checks for a deadlock once, a second after a wait began; the deadlock must exist by then.
        await until_a_session_waits(database_url)
        await other.execute("SELECT 1 FROM broker_usage FOR UPDATE")
    assert await changing is not None
    assert await store.usage("ann") == Usage()
    await store.close()
