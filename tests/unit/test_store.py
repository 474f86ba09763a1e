"""The store without operations: how it is opened, and how a batch that fails is run again or answered."""

import logging
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from broker.errors import DatabaseUnavailable
from broker.store import Store, migrate
from broker.store import store as stores
from broker.store.reads import Ping
from broker.store.schema import Document, Instant, in_schema, schema_of
from tests.support.samples import UNLIMITED, pending

DEADLOCK = exc.OperationalError("", None, psycopg.errors.DeadlockDetected())
AWAY = exc.OperationalError("", None, psycopg.OperationalError("connection refused"))
ENDED = exc.OperationalError("", None, psycopg.OperationalError("terminated"), connection_invalidated=True)
UNMIGRATED = exc.ProgrammingError("", None, psycopg.errors.UndefinedTable("no such table"))
BATCH = (Ping(), Ping(), Ping())


class Runs:
    """Fail as often as there are errors, then answer each operation by its number in the batch."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.sizes: list[int] = []

    def __call__(self, operations: Sequence[Any]) -> Sequence[object]:
        self.sizes.append(len(operations))
        if self.errors:
            raise self.errors.pop(0)
        return list(range(len(operations)))


@pytest.fixture
def rests(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    rests: list[float] = []
    monkeypatch.setattr("broker.store.store.time.sleep", rests.append)
    return rests


@pytest.mark.parametrize(
    ("errors", "sizes", "outcomes", "rest"),
    [
        ([], [3], [0, 1, 2], []),
        ([ENDED], [3, 3], [0, 1, 2], []),
        ([DEADLOCK], [3, 3], [0, 1, 2], [stores.DEADLOCK_REST_SECONDS]),
        ([AWAY], [3], [DatabaseUnavailable] * 3, []),
        ([DatabaseUnavailable()], [3], [DatabaseUnavailable] * 3, []),
        ([ENDED, ENDED], [3, 3], [DatabaseUnavailable] * 3, []),
        ([DEADLOCK, DEADLOCK], [3, 3], [DatabaseUnavailable] * 3, [stores.DEADLOCK_REST_SECONDS]),
        ([ValueError(), ValueError()], [3, 1, 1, 1], [ValueError, 0, 0], []),
        ([ValueError(), UNMIGRATED], [3, 1, 1, 1], [DatabaseUnavailable, 0, 0], []),
        ([ValueError(), ENDED], [3, 1, 1, 1, 1], [0, 0, 0], []),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_batch_that_fails_is_repeated_or_run_one_by_one(
    errors: list[Exception], sizes: list[int], outcomes: list[Any], rest: list[float], rests: list[float]
) -> None:
    run = Runs(*errors)
    answered = stores._guarded(run, BATCH)
    assert [type(each) if isinstance(each, Exception) else each for each in answered] == outcomes
    assert (run.sizes, rests) == (sizes, rest)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (AWAY, "the database is unavailable: OperationalError: connection refused"),
        (UNMIGRATED, "the database lacks a migration: UndefinedTable: no such table"),
    ],
    ids=["away", "unmigrated"],
)
def test_a_database_that_cannot_be_used_is_logged(
    error: exc.DBAPIError, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="broker.store.store"):
        stores._guarded(Runs(error), BATCH[:1])
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [("WARNING", says)]


def test_the_cause_of_an_outage_is_logged_if_it_is_known(caplog: pytest.LogCaptureFixture) -> None:
    error = DatabaseUnavailable()
    error.__cause__ = OSError("the disk is full")
    stores._guarded(Runs(error), BATCH)
    assert caplog.messages == ["the database is unavailable: OSError: the disk is full"]


async def test_the_log_holds_no_part_of_a_password_with_a_bare_at_sign(caplog: pytest.LogCaptureFixture) -> None:
    store = Store("postgresql://anna:a-pass@word-of-hers@nowhere.invalid/broker")
    with pytest.raises(DatabaseUnavailable):
        await store.get(uuid4(), None)
    await store.close()
    (line,) = caplog.messages
    assert line.startswith("the database is unavailable: OperationalError: failed to resolve host '[redacted]@nowhere")
    assert "word" not in caplog.text


@pytest.mark.parametrize(("pool_size", "readers"), [(5, 4), (2, 1), (1, 1), (0, 1)])
async def test_one_connection_of_the_pool_writes_and_the_others_read(pool_size: int, readers: int) -> None:
    store = Store("postgresql://broker@127.0.0.1:9/broker", pool_size=pool_size, timeout_seconds=3, schema="app")
    reading: Any = store._reading.pool
    assert reading.size() == readers
    assert store._deadlines._seconds == 6
    for engine in (store._reading, store._writing):
        assert engine.get_execution_options()["schema_translate_map"] == {None: "app"}
    for batcher, name, threads in ((store._writes, "writer", 1), (store._reads, "reader", readers)):
        assert (batcher._name, batcher._limit, batcher._patience_seconds) == (name, stores.MAX_BATCH, 3)
        assert len(batcher._threads) == threads
    await store.close()


async def test_fields_that_identify_a_media_cannot_be_changed() -> None:
    store = Store("sqlite:///nowhere.db")
    with pytest.raises(ValueError, match=r"^id, owner cannot be changed$"):
        await store.amend(pending(), owner="bob", id=None, size=7)
    await store.close()


async def test_a_ping_needs_the_tables(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/empty.db")
    with pytest.raises(DatabaseUnavailable):
        await store.ping()
    await store.close()


async def test_a_closed_store_has_no_connection(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/broker.db"
    migrate(url)
    store = Store(url)
    await store.add(pending(), UNLIMITED)
    await store.ping()
    pools: list[Any] = [engine.pool for engine in (store._writing, store._reading)]
    await store.close()
    assert [engine.pool is not pool for engine, pool in zip((store._writing, store._reading), pools, strict=True)] == [
        True,
        True,
    ]


def test_the_types_are_those_of_the_database() -> None:
    sqlite, postgresql = (sa.create_engine(url).dialect for url in ("sqlite://", "postgresql+psycopg://"))
    assert [str(Instant().compile(dialect=each)) for each in (sqlite, postgresql)] == [
        "VARCHAR(27)",
        "TIMESTAMP WITH TIME ZONE",
    ]
    assert [str(Document().compile(dialect=each)) for each in (sqlite, postgresql)] == ["JSON", "JSONB"]
    for dialect in (sqlite, postgresql):
        assert Instant().bind_processor(dialect)(None) is None
        assert Instant().result_processor(dialect, None)(None) is None


@pytest.fixture
def in_tokyo() -> Iterator[None]:
    """Let the machine be in Tokyo."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("in_tokyo")
def test_an_instant_is_text_on_sqlite_alone() -> None:
    sqlite, postgresql = (sa.create_engine(url).dialect for url in ("sqlite://", "postgresql+psycopg://"))
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    there = noon.astimezone(timezone(timedelta(hours=9)))
    assert Instant().bind_processor(sqlite)(there) == "2026-01-31T12:00:00.000000Z"
    assert Instant().bind_processor(postgresql)(there) is there
    for dialect, stored in ((sqlite, "2026-01-31T12:00:00.000000Z"), (postgresql, there)):
        instant = Instant().result_processor(dialect, None)(stored)
        assert instant == noon
        assert instant is not None
        assert instant.tzinfo == UTC


def test_a_schema_is_an_option_of_the_connection() -> None:
    assert in_schema(None) == {}
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        assert schema_of(connection) is None
        assert schema_of(connection.execution_options(**in_schema("app"))) == "app"
    engine.dispose()
