"""One database for the broker and the application that includes it."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from broker.domain.access.quota import Quota
from broker.errors import QuotaExceeded, SettingsInvalid
from broker.store import Store, is_current, migrate, pending_revision
from broker.store.connections.address import parse_url
from broker.store.connections.engine import migrating_engine
from broker.store.indexes import METADATA
from broker.store.migration import VERSION_TABLE, known_revisions
from tests.contract.earlier_release import apply_released_migrations, run
from tests.support.postgres import PostgreSQL
from tests.support.samples import UNLIMITED, pending

HOST_REVISION = '''
"""Create the application's own table."""

import sqlalchemy as sa
from alembic import op

revision = "a1b2c3d4e5f6"
down_revision = None


def upgrade():
    op.create_table("media", sa.Column("id", sa.Integer, primary_key=True), sa.Column("state", sa.Text))
    op.create_index("ix_media_state", "media", ["state"])
    op.create_table("usage", sa.Column("owner", sa.Text))
'''
"""A revision of an application, with the names that its tables are likely to have."""


def migrate_host(url: str, folder: Path) -> None:
    """Run the application's own migrations, with Alembic's defaults."""
    (folder / "versions").mkdir(exist_ok=True)
    (folder / "versions" / "first.py").write_text(HOST_REVISION)
    (folder / "env.py").write_text((Path(__file__).parent / "released" / "env.py").read_text())
    engine = migrating_engine(parse_url(url))
    with engine.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(folder))
        command.upgrade(config, "head")
    engine.dispose()


async def is_usable(url: str, *, schema: str | None = None) -> bool:
    """Return whether the broker writes and reads its own tables at `url`."""
    store = Store(url, schema=schema, announce_to=("https://app.example/hook",))
    media = await store.add(pending("ann", idempotency_key="a key"), UNLIMITED)
    with pytest.raises(QuotaExceeded):
        await store.add(pending("ann"), Quota(pending_count=1))
    is_read = await store.get(media.id, "ann") == media and (await store.usage("ann")).pending_count == 1
    await store.close()
    return is_read


async def test_the_broker_comes_to_the_database_of_an_application(tmp_path: Path, empty_urls: tuple[str, str]) -> None:
    url = empty_urls[0]
    migrate_host(url, tmp_path)
    run(url, "INSERT INTO media VALUES (1, 'draft')")
    assert pending_revision(url) is not None
    migrate(url)
    assert is_current(url)
    assert await is_usable(url)
    migrate_host(url, tmp_path)
    assert run(url, "SELECT id, state FROM media") == [(1, "draft")]
    assert run(url, "SELECT version_num FROM alembic_version") == [("a1b2c3d4e5f6",)]


@pytest.mark.parametrize("earlier", [False, True], ids=["a new database", "a database of an earlier release"])
async def test_an_application_comes_to_the_database_of_the_broker(
    tmp_path: Path, empty_urls: tuple[str, str], earlier: bool
) -> None:
    url = empty_urls[0]
    if earlier:
        apply_released_migrations(url)
    migrate(url)
    migrate_host(url, tmp_path)
    assert is_current(url)
    assert await is_usable(url)
    assert run(url, "SELECT count(*) FROM media") == [(0,)]


def test_foreign_tables_with_names_of_the_brokers_are_named(empty_urls: tuple[str, str]) -> None:
    url = empty_urls[0]
    run(url, "CREATE TABLE broker_usage (id INTEGER)", "CREATE TABLE broker_media (id INTEGER)")
    expected = r"^BROKER_DATABASE_URL: has broker_media, broker_usage, but not broker_version, their revision; "
    with pytest.raises(SettingsInvalid, match=expected):
        migrate(url)


@pytest.fixture
def limited_url(postgresql: PostgreSQL, postgresql_url: str) -> Iterator[str]:
    """Return the URL of a database whose user may connect, and create nothing."""
    postgresql.execute("CREATE ROLE limited LOGIN")
    yield postgresql_url.replace("broker@", "limited@")
    run(postgresql_url, "DROP OWNED BY limited", "DROP ROLE limited")


@pytest.mark.parametrize("schema", [None, "app"])
def test_a_user_without_the_right_to_create_tables_reads_what_it_lacks(limited_url: str, schema: str | None) -> None:
    with pytest.raises(
        SettingsInvalid, match=r"^BROKER_DATABASE_URL: its user should own .*; permission denied for \w+ \w+\Z"
    ):
        migrate(limited_url, schema=schema)


def test_a_user_who_owns_a_schema_needs_no_other_right(limited_url: str, postgresql_url: str) -> None:
    run(postgresql_url, "CREATE SCHEMA app AUTHORIZATION limited")
    migrate(limited_url, schema="app")
    assert is_current(limited_url, schema="app")


async def test_the_tables_of_a_schema_are_apart_from_all_others(tmp_path: Path, postgresql_url: str) -> None:
    migrate_host(postgresql_url, tmp_path)
    for schema in (None, "first", "The_Second"):
        assert pending_revision(postgresql_url, schema=schema) == known_revisions()[-1]
        migrate(postgresql_url, schema=schema)
        assert is_current(postgresql_url, schema=schema)
        assert await is_usable(postgresql_url, schema=schema)
    with psycopg.connect(postgresql_url) as connection:
        query = "SELECT schemaname FROM pg_tables WHERE tablename LIKE 'broker%' ORDER BY 1"
        found = connection.execute(query).fetchall()
    assert found == [
        (schema,) for schema in ("The_Second", "first", "public") for _ in (VERSION_TABLE, *METADATA.tables)
    ]


def test_sqlite_has_no_schemas(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match=r"^BROKER_DATABASE_SCHEMA: should be unset with SQLite"):
        migrate(f"sqlite:///{tmp_path}/broker.db", schema="app")


def test_the_tables_of_a_new_database_have_names_of_the_brokers_own(empty_urls: tuple[str, str]) -> None:
    migrate(empty_urls[0])
    engine = sa.create_engine(parse_url(empty_urls[0]))
    inspector = sa.inspect(engine)
    names = [
        name
        for table in inspector.get_table_names()
        for name in (table, *(str(index["name"]).partition("_")[2] for index in inspector.get_indexes(table)))
    ]
    engine.dispose()
    assert len(names) > 5
    assert all(name.startswith("broker_") for name in names)
