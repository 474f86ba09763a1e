"""Statements that are compiled once and run with many rows."""

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Dialect


class _Compiled(NamedTuple):
    sql: str
    processors: list[tuple[str, Callable[[Any], Any]]]
    arrange: Callable[[dict[str, Any]], Any]


class Prepared:
    """Run an INSERT or UPDATE once for each of many rows.

    SQLAlchemy's own executemany spends more on a row than SQLite does. So the statement is compiled once for each
    kind of database, and only values whose type asks for it are converted.
    """

    def __init__(self, statement: sa.Insert | sa.Update) -> None:
        self._statement = statement
        self._compiled: dict[str, _Compiled] = {}

    def run(self, connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
        """Run the statement with every row; the values in `rows` are replaced by those of the driver."""
        if not rows:
            return
        name = connection.dialect.name
        if name not in self._compiled:
            self._compiled[name] = _compile(self._statement, connection.dialect)
        sql, processors, arrange = self._compiled[name]
        for row in rows:
            for parameter, process in processors:
                row[parameter] = process(row[parameter])
        connection.exec_driver_sql(sql, [arrange(row) for row in rows])


def _compile(statement: sa.Insert | sa.Update, dialect: Dialect) -> _Compiled:
    compiled = statement.compile(dialect=dialect)
    processors: list[tuple[str, Callable[[Any], Any]]] = []
    for name, bind in compiled.binds.items():
        if process := bind.type.dialect_impl(dialect).bind_processor(dialect):
            processors.append((name, process))
    arrange = itemgetter(*compiled.positiontup) if compiled.positiontup else dict
    return _Compiled(compiled.string, processors, arrange)
