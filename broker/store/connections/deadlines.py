"""Deadlines of the client: a connection whose server does not answer in time is shut down.

The server's own time-outs do not fire if its process is stopped or its machine hangs, and TCP's do not if the kernel
still acknowledges. A thread that waits for such a server would wait forever.
"""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from broker.errors import DatabaseUnavailable
from broker.store.connections.engine import UNAVAILABLE

CHECKS = 8
"""How often deadlines are checked within one time limit."""


class Deadlines:
    """Bound the time that each thread may use a connection of PostgreSQL at a stretch."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._uses: dict[int, _Use] = {}
        """The current use of each thread, by the thread's id."""
        self._changing = threading.Lock()
        """Held to add or remove a use, and during a check, which iterates over them."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._check_until_ended, name="deadlines", daemon=True)

    def watch(self, engine: sa.Engine) -> None:
        """Apply to the connections of `engine`, before SQLAlchemy asks a new one for its version."""
        if engine.dialect.name == "postgresql":
            sa.event.listen(engine, "connect", self._attach, insert=True)
            sa.event.listen(engine, "checkout", self._attach)

    @contextmanager
    def limit(self) -> Iterator[None]:
        """Shut down the connections of this thread if the body takes too long. Raises DatabaseUnavailable then."""
        if self._thread.ident is None:
            self._start()
        use = _Use(time.monotonic() + self._seconds)
        with self._changing:
            self._uses[threading.get_ident()] = use
        try:
            yield
        except UNAVAILABLE as error:
            if use.is_over:
                raise DatabaseUnavailable from error
            raise
        finally:
            with self._changing:
                del self._uses[threading.get_ident()]

    def close(self) -> None:
        """End the checks; uses that are running have no deadline any more."""
        self._ended.set()

    def _start(self) -> None:
        with self._changing:
            if self._thread.ident is None:
                self._thread.start()

    def _attach(self, connection: Any, *_: object) -> None:
        use = self._uses.get(threading.get_ident())
        if use is not None:
            use.connection = connection

    def _check_until_ended(self) -> None:
        while not self._ended.wait(self._seconds / CHECKS):
            with self._changing:
                now = time.monotonic()
                for use in self._uses.values():
                    if not use.is_over and now >= use.ends_at and use.connection is not None:
                        use.is_over = True
                        _shut_down(use.connection)


class _Use:
    """The use of a connection by one thread, and the instant by which it has to end."""

    __slots__ = ("connection", "ends_at", "is_over")

    def __init__(self, ends_at: float) -> None:
        self.ends_at = ends_at
        self.connection: Any = None
        self.is_over = False


def _shut_down(connection: Any) -> None:
    """End the TCP connection below a connection of psycopg, so that the thread that waits for it gets an error."""
    try:
        with socket.socket(fileno=os.dup(connection.fileno())) as shared:
            shared.shutdown(socket.SHUT_RDWR)
    except (OSError, *UNAVAILABLE, connection.OperationalError):
        return  # it has ended by itself
