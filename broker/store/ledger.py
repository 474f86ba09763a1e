"""What owners use, held still while one transaction reckons with it."""

from collections.abc import Iterable
from dataclasses import asdict, fields

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from broker.media import Media
from broker.quota import Quota, Usage, footprint
from broker.store.schema import usage as table

_COUNTERS = tuple(field.name for field in fields(Usage))
_COLUMNS = tuple(table.c[name] for name in _COUNTERS)
_OPEN = {
    "sqlite": sqlite.insert(table).on_conflict_do_nothing(),
    "postgresql": postgresql.insert(table).on_conflict_do_nothing(),
}
_LOCK = (
    sa.select(table.c.owner, *_COLUMNS)
    .where(table.c.owner.in_(sa.bindparam("owners", expanding=True)))
    .order_by(table.c.owner)
    .with_for_update()
)
_READ = sa.select(*_COLUMNS).where(table.c.owner == sa.bindparam("owner"))
_WRITE = table.update().where(table.c.owner == sa.bindparam("of_owner"))


class Ledger:
    """Lock the usage of `owners`, reckon in memory, and write what changed.

    All rows are locked at once and in one order, before any row of a media, so that two transactions never
    wait for each other. What an owner adds is thereby also in order, which is why a repeated idempotency key
    can be looked up first.
    """

    def __init__(self, connection: sa.Connection, owners: Iterable[str]) -> None:
        self._connection = connection
        self._before: dict[str, Usage] = {}
        if wanted := sorted(set(owners)):
            blank = asdict(Usage())
            connection.execute(_OPEN[connection.dialect.name], [{"owner": owner, **blank} for owner in wanted])
            for owner, *counters in connection.execute(_LOCK, {"owners": wanted}):
                self._before[owner] = Usage(*counters)
        self._now = dict(self._before)

    def reserve(self, media: Media, quota: Quota) -> None:
        """Count a new media in; QuotaExceeded when it does not fit."""
        used, asked = self._now[media.owner], footprint(media)
        quota.check(used, asked)
        self._now[media.owner] = used + asked

    def move(self, owner: str, difference: Usage) -> None:
        """Count `difference` in, which may be negative."""
        self._now[owner] += difference

    def write(self) -> None:
        """Write the usage that differs from what was locked."""
        changed = [
            {"of_owner": owner, **asdict(used)} for owner, used in self._now.items() if used != self._before[owner]
        ]
        if changed:
            self._connection.execute(_WRITE, changed)


def read_usage(connection: sa.Connection, owner: str) -> Usage:
    """Return what `owner` uses."""
    row = connection.execute(_READ, {"owner": owner}).one_or_none()
    return Usage() if row is None else Usage(*row)
