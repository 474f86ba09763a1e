"""The engines of both databases: what each connection is told, and which errors mean what."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from broker.store.connections import engine as engines
from broker.store.connections.address import parse_url
from broker.store.connections.engine import migrating_engine, reading_engine, writing_engine
from broker.store.connections.sessions import LIMITS, REFUSAL, Sessions

POSTGRESQL = parse_url("postgresql://ann@127.0.0.1:9/broker")


def sqlite_error(code: int) -> exc.DBAPIError:
    error = sqlite3.OperationalError("of SQLite")
    error.sqlite_errorcode = code
    return exc.OperationalError("", None, error)


def postgresql_error(error: Exception) -> exc.DBAPIError:
    return exc.OperationalError("", None, error)


BUSY_RECOVERY, CANTOPEN_ISDIR = sqlite3.SQLITE_BUSY_RECOVERY, sqlite3.SQLITE_CANTOPEN_ISDIR
DEADLOCK = postgresql_error(psycopg.errors.DeadlockDetected())
SSLMODE = psycopg.OperationalError('invalid sslmode value: "perhaps"')
CERTIFICATE = psycopg.OperationalError('certificate file "a.crt" has group or world access')
KEY = psycopg.OperationalError('private key file "a.key" must be owned by the current user')
ENDED = exc.OperationalError("", None, psycopg.OperationalError("terminated"), connection_invalidated=True)


@pytest.mark.parametrize(
    ("kind", "matching", "others"),
    [
        (
            engines.is_unusable,
            [sqlite_error(code) for code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOTADB, CANTOPEN_ISDIR)],
            [sqlite_error(code) for code in (sqlite3.SQLITE_BUSY, BUSY_RECOVERY)] + [DEADLOCK],
        ),
        (
            engines.is_misconfigured,
            [postgresql_error(error) for error in (SSLMODE, CERTIFICATE, KEY)],
            [ENDED, exc.ProgrammingError("", None, SSLMODE)],
        ),
        (engines.is_deadlock, [DEADLOCK], [ENDED, exc.OperationalError("", None, None), ValueError()]),  # type: ignore[arg-type]
        (engines.may_be_repeated, [DEADLOCK, ENDED], [postgresql_error(SSLMODE), ValueError()]),
        (
            engines.is_refused,
            [
                postgresql_error(psycopg.errors.InsufficientPrivilege()),
                postgresql_error(psycopg.errors.InvalidSchemaName()),
            ],
            [DEADLOCK, ValueError()],
        ),
        (
            engines.is_unmigrated,
            [postgresql_error(psycopg.errors.UndefinedTable()), postgresql_error(psycopg.errors.UndefinedColumn())],
            [DEADLOCK, ValueError()],
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_error_is_of_one_kind(
    kind: Callable[[Any], bool], matching: list[Exception], others: list[Exception]
) -> None:
    assert [kind(error) for error in matching] == [True] * len(matching)
    assert [kind(error) for error in others] == [False] * len(others)


@pytest.fixture
def opened() -> Iterator[list[sa.Engine]]:
    """Return a list of engines that are disposed of afterwards."""
    opened: list[sa.Engine] = []
    yield opened
    for engine in opened:
        engine.dispose()


def test_each_engine_has_its_pool_and_its_isolation(tmp_path: Path, opened: list[sa.Engine]) -> None:
    for url in (parse_url(f"sqlite:///{tmp_path}/broker.db"), POSTGRESQL):
        opened += [
            writing_engine(url, timeout_seconds=3, schema="app"),
            reading_engine(url, timeout_seconds=4, pool_size=5, schema="app"),
            migrating_engine(url),
        ]
    pools: list[Any] = [engine.pool for engine in opened]
    assert [(pool.size(), pool._max_overflow, pool._timeout) for pool in pools] == [
        (1, 0, 3),
        (5, 0, 4),
        (1, 0, 600),
    ] * 2
    assert [engine.hide_parameters for engine in opened] == [True] * 6
    isolation = [engine.dialect._on_connect_isolation_level for engine in opened]
    assert isolation == [None, "AUTOCOMMIT", None, "READ COMMITTED", "AUTOCOMMIT", "READ COMMITTED"]
    app = {None: "app"}
    assert [engine.get_execution_options().get("schema_translate_map") for engine in opened] == [app, app, None] * 2


def test_a_connection_of_sqlite_is_durable_frugal_and_shared_by_threads(
    tmp_path: Path, opened: list[sa.Engine]
) -> None:
    opened.append(reading_engine(parse_url(f"sqlite:///{tmp_path}/broker.db"), timeout_seconds=1.5, pool_size=1))
    with opened[0].connect() as connection:
        pragmas = ("journal_mode", "synchronous", "foreign_keys", "temp_store", "cache_size", "busy_timeout")
        told = [connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() for pragma in pragmas]
        assert told == ["wal", 2, 1, 2, -256, 1500]
        session: Any = connection.connection.dbapi_connection
        assert session.isolation_level is None
        thread = threading.Thread(target=session.execute, args=["CREATE TABLE other (id)"])
        thread.start()
        thread.join()
        assert connection.exec_driver_sql("SELECT count(*) FROM other").scalar() == 0


def test_what_the_url_says_comes_before_the_brokers_own(tmp_path: Path, opened: list[sa.Engine]) -> None:
    url = parse_url(f"sqlite:///{tmp_path}/broker.db?timeout=7")
    opened.append(reading_engine(url, timeout_seconds=1.5, pool_size=1))
    with opened[0].connect() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 7000


@pytest.mark.parametrize("write", [True, False])
def test_what_may_write_takes_the_lock_of_sqlite_at_its_start(
    tmp_path: Path, opened: list[sa.Engine], write: bool
) -> None:
    url = parse_url(f"sqlite:///{tmp_path}/broker.db")
    if write:
        opened += [writing_engine(url, timeout_seconds=1), migrating_engine(url)]
    else:
        opened += [reading_engine(url, timeout_seconds=1, pool_size=1)]
    for engine in opened:
        with closing(sqlite3.connect(tmp_path / "broker.db", timeout=0)) as other, engine.begin():
            if write:
                with pytest.raises(sqlite3.OperationalError, match="locked"):
                    other.execute("BEGIN IMMEDIATE")
            else:
                other.execute("BEGIN IMMEDIATE")


def test_documents_are_json_of_any_text(tmp_path: Path, opened: list[sa.Engine]) -> None:
    opened.append(writing_engine(parse_url(f"sqlite:///{tmp_path}/broker.db"), timeout_seconds=1))
    table = sa.Table("documents", sa.MetaData(), sa.Column("document", sa.JSON))
    with opened[0].begin() as connection:
        table.create(connection)
        connection.execute(table.insert(), {"document": {"title": "Ä"}})
        assert connection.execute(sa.select(table.c.document)).scalar() == {"title": "Ä"}
        assert connection.exec_driver_sql("SELECT document FROM documents").scalar() == '{"title":"Ä"}'


class Switches:
    """A connection whose switch to the write-ahead log fails with these codes, and then succeeds."""

    def __init__(self, *codes: int) -> None:
        self.codes = list(codes)
        self.statements: list[str] = []

    def execute(self, statement: str) -> None:
        self.statements.append(statement)
        if self.codes:
            error = sqlite3.OperationalError("of SQLite")
            error.sqlite_errorcode = self.codes.pop(0)
            raise error


@pytest.mark.parametrize(
    ("codes", "deadline", "tries"),
    [
        ([], 100.0, 1),
        ([sqlite3.SQLITE_BUSY, BUSY_RECOVERY], 100.5, 3),
        ([sqlite3.SQLITE_BUSY] * 9, 100.02, -3),
        ([sqlite3.SQLITE_BUSY], 100.0, -1),
        ([sqlite3.SQLITE_NOTADB], 200.0, -1),
    ],
)
def test_a_switch_to_the_log_is_repeated_while_another_process_switches(
    codes: list[int], deadline: float, tries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    rests: list[float] = []

    def sleep(seconds: float) -> None:
        rests.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(engines, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    connection: Any = Switches(*codes)
    if tries < 0:
        with pytest.raises(sqlite3.OperationalError):
            engines._use_wal(connection, deadline)
    else:
        engines._use_wal(connection, deadline)
    assert connection.statements == ["PRAGMA journal_mode = WAL"] * abs(tries)
    assert rests == [0.01] * (abs(tries) - 1)


AT_START = " ".join(f"-c {limit}=1500" for limit in LIMITS)


class Server:
    """The dialect of a server that refuses connections with the messages of `refusals`, one after another."""

    loaded_dbapi = psycopg

    def __init__(self, *refusals: str) -> None:
        self.refusals = list(refusals)
        self.asked: list[tuple[object, ...]] = []

    def connect(self, *arguments: object, **named: object) -> str:
        self.asked.append((*arguments, named))
        if self.refusals:
            raise psycopg.OperationalError(self.refusals.pop(0))
        return "a connection"


@pytest.mark.parametrize(
    ("named", "options"), [({}, AT_START), ({"options": "-c search_path=app"}, f"{AT_START} -c search_path=app")]
)
def test_a_direct_connection_starts_with_its_limits(named: dict[str, Any], options: str) -> None:
    server: Any = Server()
    assert Sessions(POSTGRESQL, 1.5)._connect(server, None, ["broker"], {"user": "ann", **named}) == "a connection"
    assert server.asked == [("broker", {"user": "ann", "options": options})]


def test_a_pooler_that_refuses_the_limits_is_not_told_them_again() -> None:
    server: Any = Server(f"FATAL: {REFUSAL}: statement_timeout")
    sessions = Sessions(POSTGRESQL, 1.5)
    for _ in range(2):
        assert sessions._connect(server, None, ["broker"], {"user": "ann"}) == "a connection"
    assert [asked[1].get("options") for asked in server.asked] == [AT_START, None, None]
    assert [asked[0] for asked in server.asked] == ["broker"] * 3


def test_another_refusal_is_raised() -> None:
    server: Any = Server("FATAL: no such user", "FATAL: no such user")
    sessions = Sessions(POSTGRESQL, 1.5)
    for _ in range(2):
        with pytest.raises(psycopg.OperationalError, match="no such user"):
            sessions._connect(server, None, [], {})
    assert [asked[0]["options"] for asked in server.asked] == [AT_START] * 2


class Session:
    """A connection whose server has the process 7 and names another one at the start if it is a pooler."""

    def __init__(self, named_at_start: int) -> None:
        self.info = SimpleNamespace(backend_pid=named_at_start)
        self.prepare_threshold: int | None = None
        self.autocommit = False
        self.ended = False

    def execute(self, statement: str) -> Any:
        assert statement == "SELECT pg_backend_pid()"
        return SimpleNamespace(fetchone=lambda: (7,))

    def rollback(self) -> None:
        self.ended = True


@pytest.mark.parametrize(
    ("query", "named_at_start", "threshold"),
    [
        ("", 7, 5),
        ("?prepare_threshold=0", 7, 0),
        ("?prepare_threshold=none", 7, None),
        ("?prepare_threshold=0", 8, None),
    ],
)
def test_statements_are_prepared_on_direct_sessions_alone(
    query: str, named_at_start: int, threshold: int | None
) -> None:
    sessions = Sessions(parse_url(f"postgresql://ann@127.0.0.1/broker{query}"), 1.5)
    session, record = Session(named_at_start), SimpleNamespace(info={})
    sessions._examine(session, record)
    assert (session.prepare_threshold, session.ended) == (threshold, True)
    assert any(record.info.values()) is (named_at_start != 7)


@pytest.mark.parametrize(("lent", "autocommit", "told"), [(True, False, 1), (True, True, 0), (False, False, 0)])
def test_each_transaction_of_a_lent_session_is_told_its_limits(lent: bool, autocommit: bool, told: int) -> None:
    sessions = Sessions(POSTGRESQL, 1.5)
    session, record = Session(8 if lent else 7), SimpleNamespace(info={})
    sessions._examine(session, record)
    session.autocommit = autocommit
    executed: list[Any] = []
    pooled = SimpleNamespace(dbapi_connection=session)
    connection: Any = SimpleNamespace(connection=pooled, info=record.info, execute=executed.append)
    sessions._limit(connection)
    assert len(executed) == told
    for statement in executed:
        compiled = str(statement.compile(compile_kwargs={"literal_binds": True}))
        assert [f"set_config('{limit}', '1500', true)" in compiled for limit in LIMITS] == [True] * 3


def test_the_sessions_of_an_engine_are_watched(opened: list[sa.Engine]) -> None:
    opened.append(sa.create_engine(POSTGRESQL))
    sessions = Sessions(POSTGRESQL, 1.5)
    sessions.watch(opened[0])
    watched: dict[str, Callable[..., Any]] = {
        "do_connect": sessions._connect,
        "connect": sessions._examine,
        "begin": sessions._limit,
    }
    assert [name for name, call in watched.items() if not sa.event.contains(opened[0], name, call)] == []
