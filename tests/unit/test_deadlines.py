"""Deadlines of the client, over sockets of this process instead of a database."""

import socket
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from broker.errors import DatabaseUnavailable
from broker.store.connections.deadlines import CHECKS, Deadlines

SOON, NEVER = 0.05, 600.0


class Connection:
    """A connection of psycopg, as far as deadlines use it."""

    OperationalError = psycopg.OperationalError

    def __init__(self) -> None:
        self.socket, self.server = socket.socketpair()

    def fileno(self) -> int:
        if self.socket.fileno() < 0:
            raise psycopg.OperationalError("the connection is closed")
        return self.socket.fileno()

    def ask(self, deadlines: Deadlines) -> None:
        """Wait for the answer of the server, with a deadline."""
        with deadlines.limit():
            deadlines._attach(self)
            self.await_answer()

    def await_answer(self) -> None:
        if not self.socket.recv(1):
            raise exc.OperationalError("", None, psycopg.OperationalError("the connection was shut down"))

    def close(self) -> None:
        self.socket.close()
        self.server.close()


@pytest.fixture
def connection() -> Iterator[Connection]:
    connection = Connection()
    yield connection
    connection.close()


@pytest.fixture
def soon() -> Iterator[Deadlines]:
    deadlines = Deadlines(SOON)
    yield deadlines
    deadlines.close()


def test_a_use_that_takes_too_long_is_ended_and_the_next_one_is_not(soon: Deadlines, connection: Connection) -> None:
    with pytest.raises(DatabaseUnavailable):
        connection.ask(soon)
    following = Connection()
    following.server.send(b"1")
    following.ask(soon)
    assert soon._uses == {}
    following.close()


def test_each_thread_has_its_own_deadline(soon: Deadlines, connection: Connection) -> None:
    other = Connection()
    ended = []

    def use(its: Connection) -> None:
        with pytest.raises(DatabaseUnavailable):
            its.ask(soon)
        ended.append(its)

    threads = [threading.Thread(target=use, args=[its]) for its in (connection, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(ended) == 2
    other.close()


def test_the_error_of_a_use_in_time_is_its_own(connection: Connection) -> None:
    deadlines = Deadlines(NEVER)
    connection.server.close()
    with pytest.raises(exc.OperationalError):
        connection.ask(deadlines)
    assert deadlines._uses == {}
    deadlines.close()


def test_connections_that_have_ended_by_themselves_end_no_check(soon: Deadlines, connection: Connection) -> None:
    gone, cut = Connection(), Connection()
    gone.close()
    cut.server.close()
    cut.socket.shutdown(socket.SHUT_RDWR)
    checked = threading.Event()
    soon._ended = Checks(checked, after=2 * CHECKS)
    for its in (gone, cut):
        checked.clear()
        with soon.limit():
            soon._attach(its)
            assert checked.wait(30)
    with pytest.raises(DatabaseUnavailable):
        connection.ask(soon)
    cut.close()


class WatchedLock:
    """A lock that sets `asked_for` when this thread asks for it."""

    def __init__(self, asked_for: threading.Event) -> None:
        self.asked_for = asked_for
        self.by = threading.get_ident()
        self.lock = threading.Lock()

    def __enter__(self) -> None:
        if threading.get_ident() == self.by:
            self.asked_for.set()
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def test_a_use_that_begins_during_a_check_does_not_end_the_checks(soon: Deadlines) -> None:
    is_checking, arrived = threading.Event(), threading.Event()
    soon._changing = WatchedLock(arrived)  # type: ignore[assignment]

    class Checked(Connection):
        def fileno(self) -> int:
            is_checking.set()
            assert arrived.wait(30)
            return super().fileno()

    class Late(Connection):
        def await_answer(self) -> None:
            arrived.set()
            super().await_answer()

    def use() -> None:
        with pytest.raises(DatabaseUnavailable):
            checked.ask(soon)

    checked, late = Checked(), Late()
    late.socket.settimeout(30)  # it would wait forever if nothing checked its deadline
    thread = threading.Thread(target=use)
    thread.start()
    assert is_checking.wait(30)
    with pytest.raises(DatabaseUnavailable):
        late.ask(soon)
    thread.join(30)
    for each in (checked, late):
        each.close()


class Checks(threading.Event):
    """The end of the checks, which sets `checked` after so many of them, and keeps the time that each one waits."""

    def __init__(self, checked: threading.Event, *, after: int) -> None:
        super().__init__()
        self.checked, self.after = checked, after
        self.waits: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout)
        if len(self.waits) % self.after == 0:
            self.checked.set()
        return super().wait(timeout)


def test_a_use_without_a_connection_has_no_deadline_and_checks_are_frequent(soon: Deadlines) -> None:
    checked = threading.Event()
    soon._ended = checks = Checks(checked, after=3 * CHECKS)
    soon._attach(Connection())  # outside of any use
    with soon.limit():
        assert checked.wait(30)
        (use,) = soon._uses.values()
        assert not use.is_over
    assert set(checks.waits) == {SOON / CHECKS}


def test_one_thread_checks_all_uses_until_the_deadlines_are_closed() -> None:
    deadlines = Deadlines(SOON)
    for _ in range(2):
        with deadlines.limit():
            pass
    assert (deadlines._thread.name, deadlines._thread.daemon, deadlines._thread.is_alive()) == ("deadlines", True, True)
    deadlines.close()
    deadlines._thread.join(30)
    assert not deadlines._thread.is_alive()


@pytest.mark.parametrize(("url", "watched"), [("sqlite://", False), ("postgresql+psycopg://127.0.0.1:9/broker", True)])
def test_connections_of_postgresql_alone_are_watched(url: str, watched: bool, soon: Deadlines) -> None:
    engine: Any = sa.create_engine(url)
    soon.watch(engine)
    assert [sa.event.contains(engine, name, soon._attach) for name in ("connect", "checkout")] == [watched] * 2
    if watched:  # before the dialect asks a new connection for its version
        assert next(iter(engine.pool.dispatch.connect)) == soon._attach
    engine.dispose()
