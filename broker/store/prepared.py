"""Statements that are compiled once and run with many rows."""

from collections.abc import Callable, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Dialect


class _Compiled(NamedTuple):
    sql: str
    processors: list[tuple[str, Callable[[Any], Any]]]
    arrange: Callable[[dict[str, Any]], Any]


ROWS_AT_ONCE = 64
"""How many rows one INSERT has on SQLite; the driver keeps the last 128 statements that it parsed."""


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


class PreparedInsert:
    """Insert many rows of one table, each a tuple of what `names` hold.

    To bind a None is slow in Python's driver for SQLite, so a column that no row fills is left out. On SQLite many rows
    are one statement: the driver lets go of the interpreter for each, and has to wait until it gets it back.
    """

    def __init__(self, table: sa.Table, names: Sequence[str]) -> None:
        self._table = table
        self._names = tuple(names)
        self._by_names: dict[tuple[str, ...], Prepared] = {}
        self._sqlite: dict[tuple[int, ...], _SQLiteInsert] = {}

    def run(self, connection: sa.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert the rows."""
        if not rows:
            return
        columns = list(zip(*rows, strict=True))
        filled = tuple(place for place, values in enumerate(columns) if values.count(None) < len(rows))
        if connection.dialect.name == "sqlite":
            if filled not in self._sqlite:
                self._sqlite[filled] = _SQLiteInsert(self._table, self._names, filled, connection.dialect)
            self._sqlite[filled].run(connection, columns)
            return
        names = tuple(self._names[place] for place in filled)
        if names not in self._by_names:
            values: dict[str, Any] = {name: sa.bindparam(name) for name in names}
            self._by_names[names] = Prepared(self._table.insert().values(values))
        pick = itemgetter(*filled)
        self._by_names[names].run(connection, [dict(zip(names, pick(row), strict=True)) for row in rows])


class _SQLiteInsert:
    """Insert rows of which only the columns at the places in `filled` hold anything."""

    def __init__(self, table: sa.Table, names: Sequence[str], filled: Sequence[int], dialect: Dialect) -> None:
        values: dict[str, Any] = {names[place]: sa.bindparam(names[place]) for place in filled}
        compiled = table.insert().values(values).compile(dialect=dialect)
        in_order = compiled.positiontup or ()
        self._columns = [
            (names.index(name), compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect))
            for name in in_order
        ]
        self._head, _, self._row = compiled.string.partition(" VALUES ")
        self._by_count: dict[int, str] = {}

    def run(self, connection: sa.Connection, columns: Sequence[tuple[Any, ...]]) -> None:
        bound = [map(convert, columns[place]) if convert else columns[place] for place, convert in self._columns]
        rows = list(zip(*bound, strict=True))
        for first in range(0, len(rows), ROWS_AT_ONCE):
            piece = rows[first : first + ROWS_AT_ONCE]
            connection.exec_driver_sql(self._sql(len(piece)), tuple(chain.from_iterable(piece)))

    def _sql(self, count: int) -> str:
        if count not in self._by_count:
            self._by_count[count] = f"{self._head} VALUES {', '.join([self._row] * count)}"
        return self._by_count[count]
