"""Prepared inserts: every row is recorded, by few distinct statements for the driver to cache."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from broker.store.prepared import ROWS_AT_ONCE, PreparedInsert

NUMBERS = sa.Table("numbers", sa.MetaData(), sa.Column("number", sa.Integer), sa.Column("half", sa.Double))


@pytest.fixture
def connection() -> Iterator[sa.Connection]:
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        NUMBERS.create(connection)
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
