"""Migrations: they bring a database to the schema of this version.

While replicas are replaced one by one, older code runs and restarts on a newer schema. So a revision removes nothing
that older code uses: it adds tables, and columns that are nullable or have a default. Unused columns go one release
later. Revisions are numbered. A revision that older code cannot use begins a new thousand: 1007 is followed by 2001.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import exc

from broker.errors import (
    DatabaseBehind,
    DatabaseRefused,
    DatabaseUnavailable,
    DatabaseUnusable,
    SettingsInvalid,
    TablesLocked,
)
from broker.store.connections.address import parse_url, sqlite_file
from broker.store.connections.engine import (
    UNAVAILABLE,
    is_deadlock,
    is_lock_timeout,
    is_misconfigured,
    is_refused,
    is_unusable,
    migrating_engine,
)
from broker.store.migrations.earlier import earlier_revision, rename_tables
from broker.store.schema import METADATA

if TYPE_CHECKING:
    from alembic.config import Config

VERSION_TABLE = "broker_version"
"""Alembic's default, `alembic_version`, is left to an application that shares the database."""
_VERSION = sa.table(VERSION_TABLE, sa.column("version_num"))
ADVISORY_LOCK = 0x6D65646961
"""The advisory lock that migrations of this schema take on PostgreSQL."""
GENERATION = 1000
"""Older code can use a newer schema within the same thousand of revisions."""
LOCK_SECONDS = 2
"""How long a migration of PostgreSQL waits for the lock on a table.

Every query of the table waits behind it, and fails after BROKER_DATABASE_TIMEOUT_SECONDS, which is 5 by default.
"""
REST_SECONDS = 10.0
"""The pause before a migration asks for such a lock again; the queries that waited behind it run meanwhile."""
PATIENCE_SECONDS = 900.0
"""How long a migration goes on to ask for such a lock."""
_NO_LIMIT = sa.select(sa.func.set_config("statement_timeout", "0", True))
"""An index of a large table takes as long as it takes; the limit of a session would undo it each time."""
_SHORT_WAITS = sa.select(sa.func.set_config("lock_timeout", f"{LOCK_SECONDS}s", True))


def migrate(url: str, *, schema: str | None = None, tell: Callable[[str], None] = lambda _: None) -> None:
    """Apply all revisions that the database at `url` lacks, in one transaction.

    The tables are in `schema`, which is created if it is missing, or else where the database looks first. A concurrent
    migration waits for the first and then has nothing to do. Older code leaves a newer database unchanged.

    While another transaction, such as a backup, uses the tables, it tries again and again, and calls `tell` with a line
    each time. Raises DatabaseUnavailable, TablesLocked if that transaction takes longer than PATIENCE_SECONDS,
    DatabaseUnusable, and SettingsInvalid for a database that this code cannot use.
    """
    parsed = parse_url(url)
    engine = migrating_engine(parsed)
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    try:
        with _translating_errors(parsed):
            while not _is_applied(engine, schema, is_last=time.monotonic() >= give_up_at):
                tell(f"Another transaction uses the broker's tables; the migration tries again in {REST_SECONDS:g} s.")
                time.sleep(REST_SECONDS)
    finally:
        engine.dispose()


def _is_applied(engine: sa.Engine, schema: str | None, *, is_last: bool) -> bool:
    """Apply the revisions in one transaction; return whether it had the locks that it needs.

    Without them nothing is changed, and the last attempt raises TablesLocked.
    """
    try:
        with engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(_NO_LIMIT)
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(ADVISORY_LOCK)))
                connection.execute(_SHORT_WAITS)
            _upgrade(connection, schema)
    except exc.DBAPIError as error:
        if not is_lock_timeout(error) and not is_deadlock(error):
            raise
        if is_last:
            raise TablesLocked from error
        return False
    return True


def _upgrade(connection: sa.Connection, schema: str | None) -> None:
    if not _enter(connection, schema):
        connection.execute(sa.schema.CreateSchema(str(schema)))
    if _missing(connection) is None:
        return
    from alembic import command  # not loaded by servers, which only check the revision

    config = alembic_config(connection)
    if _applied(connection) is None:
        if earlier := earlier_revision(connection):
            rename_tables(connection, earlier)
            command.stamp(config, earlier)
        else:
            _require_free_names(connection)
    command.upgrade(config, "head")


def pending_revision(url: str, *, schema: str | None = None) -> str | None:
    """Return the newest revision if the database at `url` lacks it, or None; a newer database lacks nothing.

    A missing SQLite file lacks every revision, and is not created.
    Raises DatabaseUnavailable, DatabaseUnusable, and SettingsInvalid for a database that this code cannot use.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite" and _can_be_created(sqlite_file(parsed)):
        return known_revisions()[-1]
    engine = migrating_engine(parsed)
    try:
        with _translating_errors(parsed), engine.connect() as connection:
            return _missing(connection) if _enter(connection, schema) else known_revisions()[-1]
    finally:
        engine.dispose()


def require_current(url: str, *, schema: str | None = None) -> None:
    """Raise DatabaseBehind if the database at `url` lacks a revision. Raises what `pending_revision` does."""
    revision = pending_revision(url, schema=schema)
    if revision is not None:
        raise DatabaseBehind(revision=revision)


def is_current(url: str, *, schema: str | None = None) -> bool:
    """Return whether the database at `url` has every revision. Raises what `pending_revision` does."""
    return pending_revision(url, schema=schema) is None


def alembic_config(connection: sa.Connection | None) -> "Config":
    """Return Alembic's configuration for applying revisions on `connection`."""
    from alembic.config import Config

    config = Config(attributes={"connection": connection, "version_table": VERSION_TABLE})
    config.set_main_option("script_location", "broker.store:migrations")
    return config


def known_revisions() -> list[str]:
    """Return the numbers of all revisions of this version, in order. File names begin with them."""
    names = (file.name for file in files("broker.store.migrations.versions").iterdir())
    return sorted(name.partition("_")[0] for name in names if name[:1].isdecimal())


def _can_be_created(file: Path) -> bool:
    """Return whether a file is missing and its directory is writable."""
    return not file.exists() and file.parent.is_dir() and os.access(file.parent, os.W_OK | os.X_OK)


@contextmanager
def _translating_errors(url: sa.URL) -> Iterator[None]:
    """Translate the errors of the driver."""
    try:
        yield
    except exc.DBAPIError as error:
        if is_unusable(error):
            raise DatabaseUnusable(path=sqlite_file(url), cause=str(error.orig)) from error
        if is_misconfigured(error):
            raise SettingsInvalid(problems=f"BROKER_DATABASE_URL: {_first_line(error)}") from error
        if is_refused(error):
            raise DatabaseRefused(cause=_first_line(error)) from error
        if not isinstance(error, UNAVAILABLE):
            raise
        raise DatabaseUnavailable from error


def _first_line(error: exc.DBAPIError) -> str:
    return str(error.orig).partition("\n")[0]


def _enter(connection: sa.Connection, schema: str | None) -> bool:
    """Make `schema` the only one that this transaction uses; return whether it exists."""
    if schema is None:
        return True
    if connection.dialect.name == "sqlite":
        raise SettingsInvalid(problems="BROKER_DATABASE_SCHEMA: should be unset with SQLite, which has no schemas")
    quoted = connection.dialect.identifier_preparer.quote(schema)
    connection.execute(sa.select(sa.func.set_config("search_path", quoted, True)))
    return schema in sa.inspect(connection).get_schema_names()


def _require_free_names(connection: sa.Connection) -> None:
    """Raise SettingsInvalid if a table of another program, or one without its revision, has a name of the broker's."""
    taken = sorted(set(METADATA.tables) & set(sa.inspect(connection).get_table_names()))
    if taken:
        raise SettingsInvalid(
            problems=f"BROKER_DATABASE_URL: has {', '.join(taken)}, but not {VERSION_TABLE}, their revision; "
            "restore it from the backup, or keep the broker's tables apart by BROKER_DATABASE_SCHEMA (PostgreSQL)"
        )


def _missing(connection: sa.Connection) -> str | None:
    applied = _applied(connection)
    known = known_revisions()
    newest = known[-1]
    if applied is None or applied in known:
        return None if applied == newest else newest
    if not _follows(applied, newest):
        raise SettingsInvalid(problems=f"BROKER_DATABASE_URL: is at revision {applied}, too far for this version")
    return None


def _applied(connection: sa.Connection) -> str | None:
    """Return the revision of the database, or None without the version table."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(sa.select(_VERSION.c.version_num)).scalar()


def _follows(applied: str, newest: str) -> bool:
    """Return whether an unknown revision is a later one of the same thousand, so that this code can use it."""
    return applied.isdecimal() and int(newest) < int(applied) < (int(newest) // GENERATION + 1) * GENERATION
