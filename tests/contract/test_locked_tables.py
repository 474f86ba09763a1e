"""Migrations of PostgreSQL beside other transactions: they wait for a lock without blocking the broker's queries."""

import asyncio
from collections.abc import Callable

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command

from broker.errors import TablesLocked
from broker.store import Store, is_current, migrate, migration
from broker.store.connections.address import parse_url
from broker.store.connections.engine import migrating_engine
from broker.store.migration import alembic_config
from tests.support.samples import UNLIMITED, pending, until_a_session_waits

LIMITS = ("statement_timeout", "lock_timeout")


@pytest.fixture
def older_url(postgresql_url: str) -> str:
    """Return the URL of a database that lacks the revisions since 2001."""
    engine = migrating_engine(parse_url(postgresql_url))
    with engine.begin() as connection:
        command.upgrade(alembic_config(connection), "2001")
    engine.dispose()
    return postgresql_url


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migration, "REST_SECONDS", 0.01)


async def test_the_table_is_readable_while_a_migration_waits_for_a_backup(older_url: str, quick: None) -> None:
    waits: list[str] = []
    async with (
        await psycopg.AsyncConnection.connect(older_url) as backup,
        await psycopg.AsyncConnection.connect(older_url, autocommit=True) as reader,
    ):
        await backup.execute("LOCK TABLE broker_media IN ACCESS SHARE MODE")
        migrating = asyncio.create_task(asyncio.to_thread(migrate, older_url, tell=waits.append))
        await until_a_session_waits(older_url)
        async with asyncio.timeout(30):  # it waits behind the migration for at most LOCK_SECONDS
            await reader.execute("SELECT count(*) FROM broker_media")
        assert not migrating.done()
        await backup.rollback()
        await migrating
    assert is_current(older_url)
    assert set(waits) == {"Another transaction uses the broker's tables; the migration tries again in 0.01 s."}


async def test_the_broker_writes_while_an_index_waits_for_another_writer(postgresql_url: str, quick: None) -> None:
    migrate(postgresql_url)
    store = Store(postgresql_url)
    async with (
        await psycopg.AsyncConnection.connect(postgresql_url, autocommit=True) as operator,
        await psycopg.AsyncConnection.connect(postgresql_url) as writer,
    ):
        await operator.execute("DROP INDEX ix_broker_media_issued_by")
        await operator.execute("UPDATE broker_version SET version_num = '2003'")
        await writer.execute("LOCK TABLE broker_media IN ROW EXCLUSIVE MODE")
        migrating = asyncio.create_task(asyncio.to_thread(migrate, postgresql_url))
        await until_a_session_waits(postgresql_url)
        media = await store.add(pending(), UNLIMITED)
        assert not migrating.done()
        await writer.rollback()
        await migrating
    assert await store.get(media.id, "ann") == media
    assert is_current(postgresql_url)
    await store.close()


def test_a_migration_gives_up_after_a_while_and_names_the_cause(
    older_url: str, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "PATIENCE_SECONDS", 0)
    with psycopg.connect(older_url) as backup:
        backup.execute("LOCK TABLE broker_media IN ACCESS SHARE MODE")
        with pytest.raises(TablesLocked) as refusal:
            migrate(older_url)
    assert refusal.value.reason == "LockNotAvailable: canceling statement due to lock timeout"
    migrate(older_url)
    assert is_current(older_url)


def test_a_migration_has_no_limit_on_its_statements(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[object] = []

    def noting(upgrade: Callable[[sa.Connection, str | None], None]) -> Callable[[sa.Connection, str | None], None]:
        def upgraded(connection: sa.Connection, schema: str | None) -> None:
            upgrade(connection, schema)
            limits.extend(connection.exec_driver_sql(f"SHOW {name}").scalar() for name in LIMITS)

        return upgraded

    monkeypatch.setattr(migration, "_upgrade", noting(migration._upgrade))
    migrate(postgresql_url)
    assert limits == ["0", "2s"]
