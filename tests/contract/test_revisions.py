"""Rolling upgrades: older replicas run and restart on a newer schema."""

from itertools import pairwise
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.script import ScriptDirectory

from broker.domain.media import Event, State
from broker.errors import SettingsInvalid
from broker.store import Store, is_current, migrate, pending_revision
from broker.store.connections.address import parse_url
from broker.store.connections.engine import migrating_engine
from broker.store.migration import alembic_config, known_revisions
from tests.support.samples import UNLIMITED, pending

NEWER = (
    "ALTER TABLE broker_media ADD COLUMN thumbnail TEXT",
    "ALTER TABLE broker_outbox ADD COLUMN urgent INTEGER NOT NULL DEFAULT 0",
    "CREATE TABLE thumbnail (id TEXT PRIMARY KEY)",
)
"""Statements that a later revision may run."""
REVISIONS = [
    revision.revision for revision in reversed(list(ScriptDirectory.from_config(alembic_config(None)).walk_revisions()))
]


def move(url: str, revision: str, *statements: str) -> None:
    """Run statements on a database and set its revision."""
    engine = sa.create_engine(parse_url(url))
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
        connection.execute(sa.text("UPDATE broker_version SET version_num = :revision"), {"revision": revision})
    engine.dispose()


def revision_of(url: str) -> str:
    """Return the revision of the database."""
    engine = sa.create_engine(parse_url(url))
    with engine.connect() as connection:
        revision: str = connection.exec_driver_sql("SELECT version_num FROM broker_version").scalar_one()
    engine.dispose()
    return revision


def after(number: int) -> str:
    """Return the revision that is `number` after the newest one of this code."""
    return f"{int(REVISIONS[-1]) + number:04}"


async def test_code_runs_and_restarts_on_a_newer_database(database_url: str) -> None:
    store = Store(database_url, announce_to=("https://app.example/hook",))
    earlier = await store.add(pending(), UNLIMITED)
    move(database_url, after(2), *NEWER)
    assert pending_revision(database_url) is None
    assert is_current(database_url)
    restarted = Store(database_url, announce_to=("https://app.example/hook",))
    for each in (store, restarted):
        media = await each.add(pending(), UNLIMITED)
        assert await each.get(media.id, "ann") == media
    expired = await restarted.change(earlier, Event.EXPIRE, due_at=None)
    assert expired is not None
    assert expired.state is State.EXPIRED
    assert len(await restarted.outbox.kept(10)) == 1
    for each in (store, restarted):
        await each.close()


def test_a_migration_by_older_code_leaves_a_newer_database_unchanged(database_url: str) -> None:
    move(database_url, after(1), *NEWER)
    migrate(database_url)
    assert revision_of(database_url) == after(1)


@pytest.mark.parametrize(
    "revision",
    ["3000", "3001", "f00ba4c0ffee", "0000"],
    ids=["the next thousand", "another generation", "foreign", "unknown"],
)
def test_a_revision_that_this_code_cannot_use_is_refused_and_kept(database_url: str, revision: str) -> None:
    move(database_url, revision)
    for ask in (pending_revision, is_current, migrate):
        with pytest.raises(SettingsInvalid, match=f"BROKER_DATABASE_URL: is at revision {revision}"):
            ask(database_url)
    assert revision_of(database_url) == revision


def shape(connection: sa.Connection) -> dict[str, dict[str, Any]]:
    """Return the parts of each table on which code relies: columns, unique indexes and checks."""
    inspector = sa.inspect(connection)
    return {
        table: {
            "columns": {column["name"]: column for column in inspector.get_columns(table)},
            "rules": (
                inspector.get_pk_constraint(table),
                sorted((check["name"] or "", check["sqltext"]) for check in inspector.get_check_constraints(table)),
                sorted(index["name"] or "" for index in inspector.get_indexes(table) if index["unique"]),
            ),
        }
        for table in set(inspector.get_table_names()) - {"broker_version"}
    }


@pytest.mark.parametrize(("older", "newer"), list(pairwise(REVISIONS)))
def test_a_revision_removes_nothing_and_requires_nothing_of_older_code(
    older: str, newer: str, empty_urls: tuple[str, str]
) -> None:
    engine = migrating_engine(parse_url(empty_urls[0]))
    with engine.begin() as connection:
        command.upgrade(alembic_config(connection), older)
        before = shape(connection)
        command.upgrade(alembic_config(connection), newer)
        now = shape(connection)
    engine.dispose()
    assert before
    for table, known in before.items():
        columns, known_columns = now[table]["columns"], known["columns"]
        assert now[table]["rules"] == known["rules"]
        assert {name: str(columns[name]["type"]) for name in known_columns} == {
            name: str(column["type"]) for name, column in known_columns.items()
        }
        added = [columns[name] for name in columns.keys() - known_columns]
        assert [column["name"] for column in added if not column["nullable"] and column["default"] is None] == []


def test_file_names_begin_with_the_revisions_of_alembic() -> None:
    assert known_revisions() == REVISIONS
