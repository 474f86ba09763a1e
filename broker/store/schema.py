"""The tables in SQLAlchemy Core; their indexes are in `indexes.py`.

The migrations must build exactly what both modules declare; a test compares them on both databases. A change of either
module needs a revision in `migrations/versions/`. Every name begins with `broker_`, or holds it after its kind (`ix_`,
`pk_`), so that the tables can share a database with an application's own.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

from broker.domain.media import State


class Instant(sa.types.TypeDecorator[datetime]):
    """An aware datetime to the microsecond: `timestamptz` on PostgreSQL, ISO 8601 text in UTC on SQLite.

    The text has a fixed width, 2026-01-02T03:04:05.000006Z, so that its order is that of time.
    """

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[datetime] | TypeEngine[str]:
        """Return the database's own type."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(sa.String(27))
        return dialect.type_descriptor(sa.DateTime(timezone=True))

    def bind_processor(self, dialect: Dialect) -> Callable[[datetime | None], datetime | str | None]:
        """Return what turns an instant into what the database keeps; it raises ValueError for a naive one."""
        return _as_text if dialect.name == "sqlite" else _aware

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], datetime | None]:
        """Return the function that converts a stored value to an instant in UTC."""
        return _of_text if dialect.name == "sqlite" else _in_utc


def _aware(value: datetime | None) -> datetime | None:
    if value is not None and value.tzinfo is None:
        raise ValueError(f"an instant must be aware: {value!r}")
    return value


@lru_cache(maxsize=1024)  # rows of a batch mostly share their instants
def _as_text(value: datetime | None) -> str | None:
    if value is None:
        return None
    if value.tzinfo is not UTC:
        _aware(value)
        value = value.astimezone(UTC)
    # The offset is always `+00:00`.
    return f"{value.isoformat(timespec='microseconds')[:26]}Z"


@lru_cache(maxsize=1024)
def _of_text(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)


def _in_utc(value: datetime | None) -> datetime | None:
    return None if value is None else value.astimezone(UTC)


class Document(sa.types.TypeDecorator[Any]):
    """A JSON document: `jsonb` on PostgreSQL, text on SQLite."""

    impl = sa.JSON
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the database's own type. The dialect of PostgreSQL is loaded only on PostgreSQL."""
        if dialect.name == "postgresql":
            from sqlalchemy.dialects.postgresql import JSONB

            return dialect.type_descriptor(JSONB())
        return dialect.type_descriptor(sa.JSON())


def _state() -> sa.Enum:
    """Return the type of a state column; each table names its own check constraint."""
    return sa.Enum(
        State,
        name="state",
        native_enum=False,
        create_constraint=True,
        length=16,
        values_callable=lambda states: [state.value for state in states],
    )


METADATA = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

PENDING = sa.text("state = 'pending'")
PROMOTING = sa.text("state = 'promoting'")
ENDED = sa.text("state IN ('rejected', 'expired', 'deleted')")
"""Literals, because planners do not match a partial index against a parameter."""

media = sa.Table(
    "broker_media",
    METADATA,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("state", _state(), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("content_type", sa.Text, nullable=False),
    sa.Column("max_size", sa.BigInteger, nullable=False),
    sa.Column("promised_size", sa.BigInteger),
    sa.Column("promised_sha256", sa.Text),
    sa.Column("filename", sa.Text),
    sa.Column("duration_seconds", sa.Double),
    sa.Column("metadata", Document, nullable=False),
    sa.Column("redirect_url", sa.Text),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("policy_expires_at", Instant, nullable=False),
    sa.Column("idempotency_key", sa.Text),
    sa.Column("idempotency_digest", sa.Text),
    sa.Column("size", sa.BigInteger),
    sa.Column("etag", sa.Text),
    sa.Column("checksum", sa.Text),
    sa.Column("etag_is_md5", sa.Boolean, nullable=False),
    sa.Column("judgements", sa.Integer, nullable=False),
    sa.Column("ready_at", Instant),
    sa.Column("differences", sa.Text),
    sa.Column("due_at", Instant),
    sa.Column("measured_seconds", sa.Double),
    sa.Column("codec", sa.Text),
    sa.Column("width", sa.Integer),
    sa.Column("height", sa.Integer),
    sa.Column("attempt", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("still_promised", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("issued_by", sa.Text),
    sa.Column("allow_link", sa.Boolean),
    sa.Column("ended_at", Instant),
    sa.Column("part_size", sa.BigInteger),
    sa.Column("upload_expires_at", Instant),
    sa.Column("promised_crc64nvme", sa.Text),
    sa.Column("parts_digest", sa.Text),
    sa.Column("multipart_id", sa.Text),
)

usage = sa.Table(
    "broker_usage",
    METADATA,
    sa.Column("owner", sa.Text, primary_key=True),
    sa.Column("pending_count", sa.BigInteger, nullable=False),
    sa.Column("promised_bytes", sa.BigInteger, nullable=False),
    sa.Column("stored_bytes", sa.BigInteger, nullable=False),
    sa.Column("media_count", sa.BigInteger, nullable=False),
    sa.CheckConstraint("pending_count >= 0", name="pending_count"),
    sa.CheckConstraint("promised_bytes >= 0", name="promised_bytes"),
    sa.CheckConstraint("stored_bytes >= 0", name="stored_bytes"),
    sa.CheckConstraint("media_count >= 0", name="media_count"),
)

outbox = sa.Table(
    "broker_outbox",
    METADATA,
    sa.Column("media_id", sa.Uuid, primary_key=True),
    sa.Column("target", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("state", _state(), nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("data", Document, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_at", Instant),
    sa.Column("give_up_at", Instant, nullable=False),
    sa.Column("failure", sa.Text),
)

disabled_target = sa.Table(
    "broker_disabled_target",
    METADATA,
    sa.Column("target", sa.Text, primary_key=True),
    sa.Column("disabled_at", Instant, nullable=False),
)

erasure = sa.Table(
    "broker_erasure",
    METADATA,
    sa.Column("owner", sa.Text, primary_key=True),
    sa.Column("next_at", Instant, nullable=False),
)


def in_schema(schema: str | None) -> dict[str, Any]:
    """Return the execution options of connections whose tables are in `schema`; None is the database's default."""
    return {} if schema is None else {"schema_translate_map": {None: schema}}


def schema_of(connection: sa.Connection) -> str | None:
    """Return the schema that a connection was opened with."""
    mapped = connection.get_execution_options().get("schema_translate_map")
    return None if mapped is None else str(mapped[None])


def qualified(table: sa.Table, connection: sa.Connection) -> str:
    """Return the table's name for a statement written by hand, quoted, and with the schema of `connection`."""
    quote = connection.dialect.identifier_preparer.quote
    schema = schema_of(connection)
    return quote(table.name) if schema is None else f"{quote(schema)}.{quote(table.name)}"
