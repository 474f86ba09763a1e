"""Bringing a database to the schema of this version."""

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from broker.errors import DatabaseAway
from broker.store.engine import AWAY, migrating_engine, parse_url

ADVISORY_LOCK = 0x6D65646961
"""The advisory lock that migrations of this schema take on PostgreSQL."""


def migrate(url: str) -> None:
    """Apply all revisions that the database at `url` lacks, in one transaction.

    Whoever comes second waits for the first and then finds nothing to do. Raises DatabaseAway.
    """
    engine = migrating_engine(parse_url(url))
    try:
        with engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(ADVISORY_LOCK)))
            command.upgrade(_config(connection), "head")
    except AWAY as error:
        raise DatabaseAway from error
    finally:
        engine.dispose()


def pending_revision(url: str) -> str | None:
    """Return the newest revision if the database at `url` does not have it yet. Raises DatabaseAway."""
    engine = migrating_engine(parse_url(url))
    try:
        with engine.connect() as connection:
            applied = MigrationContext.configure(connection).get_current_revision()
    except AWAY as error:
        raise DatabaseAway from error
    finally:
        engine.dispose()
    newest = ScriptDirectory.from_config(_config(None)).get_current_head()
    return None if applied == newest else newest


def is_current(url: str) -> bool:
    """Return whether the database at `url` has every revision. Raises DatabaseAway."""
    return pending_revision(url) is None


def _config(connection: sa.Connection | None) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "broker.store:migrations")
    return config
