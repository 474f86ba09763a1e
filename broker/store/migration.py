"""Bringing a database to the schema of this version.

While replicas are replaced one by one, older code runs, and starts again, on a newer schema. So a revision takes
nothing from the code before it: it adds tables, and columns that may be left out; what is no longer used goes a release
later.
Revisions are numbered. One that older code cannot live with begins a new thousand: 0007 is followed by 1001.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import exc

from broker.errors import DatabaseUnavailable, DatabaseUnusable, SettingsInvalid
from broker.store.engine import UNAVAILABLE, is_unusable, migrating_engine, parse_url, sqlite_file

if TYPE_CHECKING:
    from alembic.config import Config

ADVISORY_LOCK = 0x6D65646961
"""The advisory lock that migrations of this schema take on PostgreSQL."""
_VERSION = sa.table("alembic_version", sa.column("version_num"))
GENERATION = 1000
"""Within so many revisions, older code lives with a newer schema."""


def migrate(url: str) -> None:
    """Apply all revisions that the database at `url` lacks, in one transaction.

    Whoever comes second waits for the first and then finds nothing to do; so does older code on a newer database.
    Raises DatabaseUnavailable, DatabaseUnusable, and SettingsInvalid for a database that this code cannot live with.
    """
    parsed = parse_url(url)
    engine = migrating_engine(parsed)
    try:
        with _telling_why(parsed), engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(ADVISORY_LOCK)))
            if _missing(connection) is not None:
                from alembic import command  # who serves only asks what is missing

                command.upgrade(alembic_config(connection), "head")
    finally:
        engine.dispose()


def pending_revision(url: str) -> str | None:
    """Return the newest revision if the database at `url` does not have it yet; a newer database lacks nothing.

    A file of SQLite that is not there yet lacks all, and is not made.
    Raises DatabaseUnavailable, DatabaseUnusable, and SettingsInvalid for a database that this code cannot live with.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite" and _is_to_be_made(sqlite_file(parsed)):
        return known_revisions()[-1]
    engine = migrating_engine(parsed)
    try:
        with _telling_why(parsed), engine.connect() as connection:
            return _missing(connection)
    finally:
        engine.dispose()


def is_current(url: str) -> bool:
    """Return whether the database at `url` has every revision. Raises what `pending_revision` does."""
    return pending_revision(url) is None


def alembic_config(connection: sa.Connection | None) -> "Config":
    """Return what Alembic needs to know to apply revisions on `connection`."""
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "broker.store:migrations")
    return config


def known_revisions() -> list[str]:
    """Return the numbers of all revisions of this version, with which the names of their files begin, in order."""
    names = (file.name for file in files("broker.store.migrations.versions").iterdir())
    return sorted(name.partition("_")[0] for name in names if name[:1].isdecimal())


def _is_to_be_made(file: Path) -> bool:
    """Tell whether a file is absent, and may be made where it is to be."""
    return not file.exists() and file.parent.is_dir() and os.access(file.parent, os.W_OK | os.X_OK)


@contextmanager
def _telling_why(url: sa.URL) -> Iterator[None]:
    """Turn what the driver says into an error of ours."""
    try:
        yield
    except exc.DBAPIError as error:
        if is_unusable(error):
            raise DatabaseUnusable(path=sqlite_file(url), cause=str(error.orig)) from error
        if not isinstance(error, UNAVAILABLE):
            raise
        raise DatabaseUnavailable from error


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
    """Return the revision that the database is at, where Alembic keeps it."""
    if not sa.inspect(connection).has_table(_VERSION.name):
        return None
    return connection.execute(sa.select(_VERSION.c.version_num)).scalar()


def _follows(applied: str, newest: str) -> bool:
    """Tell whether a revision that this code does not know came later, and takes nothing from it."""
    return applied.isdecimal() and int(newest) < int(applied) < (int(newest) // GENERATION + 1) * GENERATION
