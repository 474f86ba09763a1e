"""Prepared inserts: every row is recorded, by few distinct statements for the driver to cache."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from broker.store.prepared import ROWS_AT_ONCE, Prepared, PreparedInsert, insert_absent
from broker.store.schema import Instant

NUMBERS = sa.Table("numbers", sa.MetaData(), sa.Column("number", sa.Integer), sa.Column("half", sa.Double))
INSTANTS = sa.Table("instants", sa.MetaData(), sa.Column("number", sa.Integer), sa.Column("at", Instant))
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
SOON, LATER = NOW + timedelta(seconds=1), NOW + timedelta(days=1)


@pytest.fixture
def connection() -> Iterator[sa.Connection]:
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        NUMBERS.create(connection)
        INSTANTS.create(connection)
        yield connection
    engine.dispose()


def test_any_number_of_rows_is_inserted_by_few_distinct_statements(connection: sa.Connection) -> None:
    insert = PreparedInsert(NUMBERS, ["number", "half"])
    executed: list[str] = []

    @sa.event.listens_for(connection, "before_cursor_execute")
    def keep(_connection: object, _cursor: object, statement: str, *_: Any) -> None:
        executed.append(statement)

    counts = range(1, 2 * ROWS_AT_ONCE + 2)
    statements: set[str] = set()
    for count in counts:
        executed.clear()
        insert.run(connection, [(number, count / 2) for number in range(count)])
        assert len(executed) <= count // ROWS_AT_ONCE + 2
        statements |= set(executed)
    assert len(statements) == 19
    rows = connection.execute(sa.select(NUMBERS).order_by(NUMBERS.c.half, NUMBERS.c.number))
    assert [tuple(row) for row in rows] == [(number, count / 2) for count in counts for number in range(count)]


@pytest.mark.parametrize(
    "instants",
    [(NOW,), (NOW, NOW, NOW), (NOW, SOON, NOW), (None, NOW, None), (NOW, None, NOW), (NOW, SOON, LATER), (None,)],
)
def test_a_column_is_written_row_by_row_however_its_ends_look(
    instants: tuple[datetime | None, ...], connection: sa.Connection
) -> None:
    rows = list(enumerate(instants))
    insert = PreparedInsert(INSTANTS, ["number", "at"])
    for _ in range(2):
        insert.run(connection, rows)
    found = connection.execute(sa.select(INSTANTS).order_by(INSTANTS.c.number)).all()
    assert [tuple(row) for row in found] == [row for row in rows for _ in range(2)]


def test_no_rows_are_no_statement(connection: sa.Connection) -> None:
    @sa.event.listens_for(connection, "before_cursor_execute")
    def refuse(*_: Any) -> None:
        raise AssertionError("a statement was executed")

    PreparedInsert(INSTANTS, ["number"]).run(connection, [])
    Prepared(INSTANTS.update().values(number=sa.bindparam("number"))).run(connection, [])


def test_an_update_runs_once_for_each_row_with_the_values_of_the_database(connection: sa.Connection) -> None:
    PreparedInsert(INSTANTS, ["number", "at"]).run(connection, [(1, NOW), (2, NOW), (3, NOW)])
    update = Prepared(
        INSTANTS.update().where(INSTANTS.c.number == sa.bindparam("of_number")).values(at=sa.bindparam("at"))
    )
    for instants in ((SOON, None), (LATER, NOW)):
        update.run(connection, [{"of_number": number, "at": at} for number, at in enumerate(instants, 1)])
        found = connection.execute(sa.select(INSTANTS.c.at).order_by(INSTANTS.c.number)).scalars().all()
        assert found == [*instants, NOW]


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_an_insert_may_skip_existing_rows(dialect: str) -> None:
    statement = insert_absent(NUMBERS, dialect).values(number=1)
    engine = sa.create_engine({"sqlite": "sqlite://", "postgresql": "postgresql+psycopg://"}[dialect])
    text = str(statement.compile(engine))
    assert text.startswith("INSERT INTO numbers (number)")
    assert text.endswith("ON CONFLICT DO NOTHING")
