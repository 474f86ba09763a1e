"""Connections to either database, and which of their errors mean that it is away."""

import sqlite3
import time
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import sqlalchemy as sa
from pydantic_core import from_json, to_json
from sqlalchemy import exc

from broker.errors import SettingsInvalid

UNAVAILABLE = (exc.OperationalError, exc.InterfaceError, exc.InternalError, exc.TimeoutError)
"""The database is lost, locked beyond the timeout, full or read-only: nothing that the caller could mend."""

UNUSABLE = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOTADB}
"""What SQLite answers where its directory is absent, it may not write, or the file is something else."""

DEADLOCK = "40P01"
"""What PostgreSQL answers whoever it ends so that another may go on (PostgreSQL documentation, "Error Codes")."""
UNMIGRATED = {"42P01", "42703"}
"""What PostgreSQL answers to whoever names a table, or a column, that is not there (same place)."""
MIGRATION_SECONDS = 600.0
WAL_REST_SECONDS = 0.01
CACHE_KIBIBYTES = 256
"""How much of a file of SQLite each connection holds itself."""


def parse_url(url: str) -> sa.URL:
    """Return the URL with its driver named: psycopg 3 for PostgreSQL, the standard library's for SQLite.

    Raises SettingsInvalid, which quotes nothing of the URL, where it cannot be read, for another database, and for
    SQLite in memory, which neither threads nor processes could share.
    """
    try:
        parsed = sa.make_url(url)
    except exc.ArgumentError:
        raise SettingsInvalid(problems="BROKER_DATABASE_URL: cannot be read") from None
    except ValueError:
        raise SettingsInvalid(
            problems="BROKER_DATABASE_URL: its port should be a number; several hosts: ?host=one,two&port=5432,5432"
        ) from None
    match parsed.drivername:
        case "postgres" | "postgresql" | "postgresql+psycopg":
            return parsed.set(drivername="postgresql+psycopg")
        case "sqlite" | "sqlite+pysqlite":
            if parsed.database in (None, "", ":memory:") or parsed.query.get("mode") == "memory":
                raise SettingsInvalid(
                    problems="BROKER_DATABASE_URL: names SQLite in memory; should name a file: sqlite:///path"
                )
            return parsed.set(drivername="sqlite+pysqlite")
        case other:
            raise SettingsInvalid(
                problems=f"BROKER_DATABASE_URL: names {other!r}, which is not supported; use postgresql or sqlite"
            )


def sqlite_file(url: sa.URL) -> Path:
    """Return the file that a URL of SQLite names, as a path or as an address of the form `file:path?mode=rw&uri=true`.

    Source: SQLite documentation, "Uniform Resource Identifiers".
    """
    name = url.database or ""
    return Path(unquote(urlsplit(name).path)) if "uri" in url.query and name.startswith("file:") else Path(name)


def is_unusable(error: exc.DBAPIError) -> bool:
    """Tell whether SQLite cannot work with its file: waiting mends nothing."""
    return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in UNUSABLE


def writing_engine(url: sa.URL, *, timeout_seconds: float) -> sa.Engine:
    """Return an engine of one connection whose transactions may write.

    On SQLite each begins as BEGIN IMMEDIATE: two processes that share the file wait for each other at the
    start, where waiting is harmless, and never in the middle.
    """
    engine = _engine(url, timeout_seconds=timeout_seconds, pool_size=1)
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "begin", _begin_immediate)
    return engine


def reading_engine(url: sa.URL, *, timeout_seconds: float, pool_size: int) -> sa.Engine:
    """Return an engine whose statements each see what is committed when they start."""
    return _engine(url, timeout_seconds=timeout_seconds, pool_size=pool_size, isolation_level="AUTOCOMMIT")


def may_be_repeated(error: Exception) -> bool:
    """Tell whether a transaction failed by itself, so that the same one may well succeed now.

    A connection that ended while it lay in the pool says nothing about the database; a deadlock has a winner, who is
    done soon.
    """
    ended: bool = getattr(error, "connection_invalidated", False)
    return ended or is_deadlock(error)


def is_deadlock(error: Exception) -> bool:
    """Tell whether PostgreSQL ended a transaction so that the one which it waited for may go on."""
    return _sqlstate(error) == DEADLOCK


def is_unmigrated(error: Exception) -> bool:
    """Tell whether PostgreSQL lacks a table or a column; of SQLite that is an error of those in UNAVAILABLE."""
    return _sqlstate(error) in UNMIGRATED


def _sqlstate(error: Exception) -> str | None:
    """Return PostgreSQL's code for an error of SQLAlchemy's, if it has one."""
    return getattr(getattr(error, "orig", None), "sqlstate", None)


def migrating_engine(url: sa.URL) -> sa.Engine:
    """Return an engine for one long transaction: what waits for another migration waits until that is
    done."""
    engine = _engine(url, timeout_seconds=MIGRATION_SECONDS, pool_size=1)
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "begin", _begin_immediate)
    return engine


def _engine(url: sa.URL, *, timeout_seconds: float, **options: Any) -> sa.Engine:
    on_sqlite = url.get_backend_name() == "sqlite"
    arguments = _sqlite_arguments(timeout_seconds) if on_sqlite else _postgresql_arguments(timeout_seconds)
    if not on_sqlite:
        # Who waited for a lock must see what its holder wrote, whatever the server's default is.
        options.setdefault("isolation_level", "READ COMMITTED")
    engine = sa.create_engine(
        url,
        connect_args={name: value for name, value in arguments.items() if name not in url.query},
        pool_timeout=timeout_seconds,
        max_overflow=0,
        hide_parameters=True,  # an error's text is logged, and the parameters are clients' data
        json_serializer=lambda document: to_json(document).decode(),
        json_deserializer=from_json,
        **options,
    )
    if on_sqlite:
        sa.event.listen(engine, "connect", partial(_prepare_sqlite, timeout_seconds))
    return engine


def _sqlite_arguments(timeout_seconds: float) -> dict[str, Any]:
    # isolation_level None: the driver begins no transaction by itself.
    return {"timeout": timeout_seconds, "isolation_level": None, "check_same_thread": False}


def _postgresql_arguments(timeout_seconds: float) -> dict[str, Any]:
    milliseconds = ceil(timeout_seconds * 1000)
    limits = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    return {
        "connect_timeout": max(2, ceil(min(timeout_seconds, 10))),
        "tcp_user_timeout": milliseconds,
        "options": " ".join(f"-c {limit}={milliseconds}" for limit in limits),
        "application_name": "s3-media-broker",
        # After a failover a name may still lead to the old primary, which keeps its connections and refuses all writes.
        "target_session_attrs": "read-write",
    }


def _prepare_sqlite(timeout_seconds: float, connection: sqlite3.Connection, record: object) -> None:
    _use_wal(connection, time.monotonic() + timeout_seconds)
    # A statement that writes many pages keeps what they were, to be able to fail alone; by default in a file.
    # The system keeps the file's pages in memory as well: eight times as many in each connection made nothing faster
    # over 300,000 rows.
    for pragma in (
        "synchronous = FULL",
        "foreign_keys = ON",
        "temp_store = MEMORY",
        f"cache_size = -{CACHE_KIBIBYTES}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _use_wal(connection: sqlite3.Connection, deadline: float) -> None:
    """Switch to the write-ahead log; where two do so at once, SQLite refuses one without waiting, so this waits."""
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
            time.sleep(WAL_REST_SECONDS)
        else:
            return


def _begin_immediate(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
