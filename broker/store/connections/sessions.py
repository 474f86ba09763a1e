"""Sessions of PostgreSQL, direct or lent by a pooler such as PgBouncer in transaction mode.

A pooler lends a session of the server for one transaction. So what a session remembers is lost: prepared statements,
and the time limits that a direct connection sets when it starts, which PgBouncer refuses or ignores. Statements are
prepared only on direct connections. There it saves 70 % of the server's processor time and 15 % of the broker's (an
issue, a read and a list, 64 at a time).
"""

from math import ceil
from typing import Any

import sqlalchemy as sa

from broker.store.connections.address import PREPARE_THRESHOLD, driver_options

LIMITS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
"""The settings of PostgreSQL that end what takes too long."""
PREPARED_AFTER = 5
"""How often a statement runs before it is prepared, unless the URL says otherwise; psycopg's default."""
REFUSAL = "unsupported startup parameter"
"""What PgBouncer says of settings that a connection brings."""
_LENT = "is lent by a pooler"
"""The key of a connection's `info`, set if a pooler lends it."""


def postgresql_arguments(url: sa.URL, timeout_seconds: float) -> tuple[sa.URL, dict[str, Any]]:
    """Return the URL without the options that psycopg reads itself, and the arguments of a connection."""
    typed = driver_options(url)
    arguments = {
        "connect_timeout": max(2, ceil(min(timeout_seconds, 10))),
        "tcp_user_timeout": ceil(timeout_seconds * 1000),
        "application_name": "s3-media-broker",
        # After a failover the name may still lead to the old primary, which accepts connections and refuses all writes.
        "target_session_attrs": "read-write",
    }
    chosen = {name: value for name, value in arguments.items() if name not in url.query} | typed
    # Nothing is prepared until it is known that a connection is direct.
    return url.difference_update_query(typed), chosen | {PREPARE_THRESHOLD: None}


class Sessions:
    """Set up each connection of an engine by what it leads to."""

    def __init__(self, url: sa.URL, timeout_seconds: float) -> None:
        milliseconds = str(ceil(timeout_seconds * 1000))
        self._at_start = " ".join(f"-c {limit}={milliseconds}" for limit in LIMITS)
        self._in_transaction = sa.select(*(sa.func.set_config(limit, milliseconds, True) for limit in LIMITS))
        self._prepare_threshold = driver_options(url).get(PREPARE_THRESHOLD, PREPARED_AFTER)
        self._are_refused = False

    def watch(self, engine: sa.Engine) -> None:
        """Apply to the connections that `engine` opens, and to their transactions."""
        sa.event.listen(engine, "do_connect", self._connect)
        sa.event.listen(engine, "connect", self._examine)
        sa.event.listen(engine, "begin", self._limit)

    def _connect(self, dialect: sa.Dialect, _: object, arguments: Any, named: dict[str, Any]) -> Any:
        """Connect with the limits of a session, or without them if a pooler refuses them."""
        if not self._are_refused:
            options = f"{self._at_start} {named.get('options', '')}".rstrip()
            try:
                return dialect.connect(*arguments, **{**named, "options": options})
            except dialect.loaded_dbapi.OperationalError as error:
                if REFUSAL not in str(error):
                    raise
                self._are_refused = True
        return dialect.connect(*arguments, **named)

    def _examine(self, connection: Any, record: Any) -> None:
        """Let a session that a pooler lends remember nothing.

        A server names its process when a connection starts; a pooler names a number of its own.
        """
        process = connection.execute("SELECT pg_backend_pid()").fetchone()
        connection.rollback()
        if process == (connection.info.backend_pid,):
            connection.prepare_threshold = self._prepare_threshold
        else:
            record.info[_LENT] = True

    def _limit(self, connection: sa.Connection) -> None:
        """Set the limits for one transaction of a session that is lent. In autocommit mode there is none."""
        session: Any = connection.connection.dbapi_connection
        if connection.info.get(_LENT) and not session.autocommit:
            connection.execute(self._in_transaction)
