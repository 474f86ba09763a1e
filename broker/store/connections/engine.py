"""Engines for both databases, and the classes of their errors."""

import re
import sqlite3
import time
from functools import partial
from typing import Any

import sqlalchemy as sa
from pydantic_core import from_json, to_json
from sqlalchemy import exc

from broker.store.connections.sessions import Sessions, postgresql_arguments
from broker.store.schema import in_schema

UNAVAILABLE = (exc.OperationalError, exc.InterfaceError, exc.InternalError, exc.TimeoutError)
"""The database is unreachable, locked beyond the timeout, full or read-only: nothing that a client can fix."""

UNUSABLE = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOTADB}
"""SQLite's codes for a missing directory, a missing right to write, and a file that is not a database."""

DEADLOCK = "40P01"
"""SQLSTATE `deadlock_detected` (PostgreSQL documentation, "PostgreSQL Error Codes")."""
LOCK_TIMEOUT = "55P03"
"""SQLSTATE `lock_not_available`: `lock_timeout` is over (same source)."""
MISCONFIGURED = re.compile(r'invalid \w+ value|(?:certificate|key) file "')
"""Messages of libpq about an option whose value it cannot use; no server is to blame."""
REFUSED = {"42501", "3F000"}
"""SQLSTATE `insufficient_privilege` and `invalid_schema_name`, the latter also if the user may see no schema."""
UNMIGRATED = {"42P01", "42703"}
"""SQLSTATE `undefined_table` and `undefined_column` (same source)."""
MIGRATION_SECONDS = 600.0
WAL_REST_SECONDS = 0.01
CACHE_KIBIBYTES = 256
"""The page cache of each SQLite connection."""


def is_unusable(error: exc.DBAPIError) -> bool:
    """Return whether SQLite cannot use its file, so that waiting does not help."""
    return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in UNUSABLE


def writing_engine(url: sa.URL, *, timeout_seconds: float, schema: str | None = None) -> sa.Engine:
    """Return an engine of one connection whose transactions may write; the tables are in `schema`.

    On SQLite each begins as BEGIN IMMEDIATE, so that processes that share the file wait at the start, where waiting is
    harmless, and never in the middle of a transaction.
    """
    engine = _engine(url, timeout_seconds=timeout_seconds, pool_size=1, execution_options=in_schema(schema))
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "begin", _begin_immediate)
    return engine


def reading_engine(url: sa.URL, *, timeout_seconds: float, pool_size: int, schema: str | None = None) -> sa.Engine:
    """Return an engine in autocommit mode: each statement sees the data committed when it starts."""
    return _engine(
        url,
        timeout_seconds=timeout_seconds,
        pool_size=pool_size,
        isolation_level="AUTOCOMMIT",
        execution_options=in_schema(schema),
    )


def may_be_repeated(error: Exception) -> bool:
    """Return whether a failed transaction may succeed at once if it is repeated.

    A connection that was closed while it was pooled says nothing about the database, and the winner of a deadlock
    commits soon.
    """
    ended: bool = getattr(error, "connection_invalidated", False)
    return ended or is_deadlock(error)


def is_deadlock(error: Exception) -> bool:
    """Return whether PostgreSQL aborted a transaction to resolve a deadlock."""
    return _sqlstate(error) == DEADLOCK


def is_lock_timeout(error: Exception) -> bool:
    """Return whether PostgreSQL gave up to wait for a lock."""
    return _sqlstate(error) == LOCK_TIMEOUT


def is_misconfigured(error: exc.DBAPIError) -> bool:
    """Return whether an option of the URL has a value that libpq cannot use, so that waiting does not help."""
    return isinstance(error, exc.OperationalError) and MISCONFIGURED.search(str(error.orig)) is not None


def is_refused(error: Exception) -> bool:
    """Return whether PostgreSQL refused a user the right to use a table or to create one."""
    return _sqlstate(error) in REFUSED


def is_unmigrated(error: Exception) -> bool:
    """Return whether PostgreSQL lacks a table or a column; on SQLite that error is one of UNAVAILABLE."""
    return _sqlstate(error) in UNMIGRATED


def _sqlstate(error: Exception) -> str | None:
    """Return the SQLSTATE of an SQLAlchemy error, or None if it has none."""
    return getattr(getattr(error, "orig", None), "sqlstate", None)


def migrating_engine(url: sa.URL) -> sa.Engine:
    """Return an engine for one long transaction; it waits until a concurrent migration is done."""
    engine = _engine(url, timeout_seconds=MIGRATION_SECONDS, pool_size=1)
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "begin", _begin_immediate)
    return engine


def _engine(url: sa.URL, *, timeout_seconds: float, **options: Any) -> sa.Engine:
    on_sqlite = url.get_backend_name() == "sqlite"
    if on_sqlite:
        arguments = {name: value for name, value in _sqlite_arguments(timeout_seconds).items() if name not in url.query}
    else:
        sessions = Sessions(url, timeout_seconds)
        url, arguments = postgresql_arguments(url, timeout_seconds)
        # A transaction that waited for a lock must see the holder's changes, whatever the server's default is.
        options.setdefault("isolation_level", "READ COMMITTED")
    engine = sa.create_engine(
        url,
        connect_args=arguments,
        pool_timeout=timeout_seconds,
        max_overflow=0,
        hide_parameters=True,  # an error's text is logged, and the parameters are clients' data
        json_serializer=lambda document: to_json(document).decode(),
        json_deserializer=from_json,
        **options,
    )
    if on_sqlite:
        sa.event.listen(engine, "connect", partial(_prepare_sqlite, timeout_seconds))
    else:
        sessions.watch(engine)
    return engine


def _sqlite_arguments(timeout_seconds: float) -> dict[str, Any]:
    # isolation_level None: the driver does not begin transactions by itself.
    return {"timeout": timeout_seconds, "isolation_level": None, "check_same_thread": False}


def _prepare_sqlite(timeout_seconds: float, connection: sqlite3.Connection, record: object) -> None:
    _use_wal(connection, time.monotonic() + timeout_seconds)
    # temp_store: by default SQLite writes the statement journal of a large write to a file.
    # cache_size: the operating system caches the file too; eight times as many pages saved no time over 300,000 rows.
    for pragma in (
        "synchronous = FULL",
        "foreign_keys = ON",
        "temp_store = MEMORY",
        f"cache_size = -{CACHE_KIBIBYTES}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _use_wal(connection: sqlite3.Connection, deadline: float) -> None:
    """Switch to the write-ahead log. SQLite refuses concurrent switches at once, so this retries until `deadline`."""
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
