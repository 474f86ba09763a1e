"""The database as earlier releases made it: their revisions, as they were released."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from broker.store.connections.address import parse_url
from broker.store.connections.engine import migrating_engine

REVISIONS = ("0001", "0002", "1001", "1002")
ROWS = (
    "INSERT INTO media (id, owner, state, version, content_type, max_size, metadata, created_at, policy_expires_at, "
    "idempotency_key, etag_is_md5, judgements) VALUES ('019b0000000070008000000000000001', 'ann', 'ready', 3, "
    "'video/mp4', 1000, '{\"title\": \"Ä\"}', '2026-01-02T03:04:05.000006Z', '2026-01-02T03:19:05.000006Z', 'a key', "
    "true, 1)",
    "INSERT INTO usage VALUES ('ann', 0, 0, 1000, 1)",
)
"""A media that is ready, and the usage of its owner; every revision has these columns."""


def apply_released_migrations(url: str, revision: str = "head") -> None:
    """Do what `broker migrate` of an earlier release did to a database without its tables."""
    engine = migrating_engine(parse_url(url))
    with engine.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(Path(__file__).parent / "released"))
        command.upgrade(config, revision)
    engine.dispose()


def run(url: str, *statements: str) -> list[tuple[object, ...]]:
    """Run statements in one transaction, and return the rows of the last one, if it returns any."""
    engine = sa.create_engine(parse_url(url))
    with engine.begin() as connection:
        for statement in statements:
            result = connection.exec_driver_sql(statement)
        rows = [tuple(row) for row in result] if result.returns_rows else []
    engine.dispose()
    return rows
