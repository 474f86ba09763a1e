"""What owners use, held still while one transaction reckons with it."""

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from broker.domain.media import Media
from broker.domain.quota import Quota, Usage, footprint, total
from broker.errors import QuotaExceeded
from broker.store.prepared import Prepared, insert_absent
from broker.store.schema import usage as table

_COLUMNS = tuple(table.c[name] for name in Usage._fields)
_OPEN_ON_SQLITE = Prepared(insert_absent(table, "sqlite"))
_OPEN_IN_ORDER = f"""
INSERT INTO usage (owner, {", ".join(Usage._fields)})
SELECT owner, {", ".join("0" for _ in Usage._fields)} FROM unnest(%(owners)s::text[]) AS owner
ORDER BY owner ON CONFLICT DO NOTHING
"""  # noqa: S608 names of our own
_LOCK = (
    sa.select(table.c.owner, *_COLUMNS)
    .where(table.c.owner.in_(sa.bindparam("owners", expanding=True)))
    .order_by(table.c.owner)
    .with_for_update()
)
_READ = sa.select(*_COLUMNS).where(table.c.owner == sa.bindparam("owner"))
_WRITE = Prepared(
    table.update()
    .where(table.c.owner == sa.bindparam("of_owner"))
    .values({name: sa.bindparam(name) for name in Usage._fields})
)


class Ledger:
    """Lock the usage of `owners`, reckon in memory, and write what changed.

    All rows are locked at once and in one order, before any row of a media, so that two transactions never
    wait for each other. What an owner adds is thereby also in order, which is why a repeated idempotency key
    can be looked up first.
    """

    def __init__(self, connection: sa.Connection, owners: Iterable[str]) -> None:
        self._connection = connection
        wanted = sorted(set(owners))
        self._before = self._lock(wanted)
        if unopened := [owner for owner in wanted if owner not in self._before]:
            self._open(unopened)
            self._before = self._lock(wanted)
        self._now = dict(self._before)

    def _open(self, owners: list[str]) -> None:
        """Make the rows of new owners. Who holds one waits for later ones alone, or two would wait in a circle."""
        self._connection.rollback()
        if self._connection.dialect.name == "sqlite":  # has one writer, who waits for nobody
            _OPEN_ON_SQLITE.run(self._connection, [{"owner": owner, **Usage()._asdict()} for owner in owners])
        else:
            self._connection.exec_driver_sql(_OPEN_IN_ORDER, {"owners": owners})
            self._connection.commit()

    def _lock(self, owners: list[str]) -> dict[str, Usage]:
        if not owners:
            return {}
        rows = self._connection.execute(_LOCK, {"owners": owners})
        return {owner: Usage(*counters) for owner, *counters in rows}

    def reserve(self, owner: str, media: Sequence[Media], quota: Quota) -> list[tuple[Media, QuotaExceeded]]:
        """Count new media of one owner in, one after another; return those that do not fit, and why."""
        exceeded = self._reserve(owner, total(map(footprint, media)), quota)
        if exceeded is None:
            return []  # no media takes less than nothing, so that each fits where all do
        if len(media) == 1:
            return [(media[0], exceeded)]
        return [refused for one in media for refused in self.reserve(owner, [one], quota)]

    def _reserve(self, owner: str, asked: Usage, quota: Quota) -> QuotaExceeded | None:
        try:
            self._now[owner] = quota.reserve(self._now[owner], asked)
        except QuotaExceeded as exceeded:
            return exceeded
        return None

    def move(self, owner: str, difference: Usage) -> None:
        """Count `difference` in, which may be negative."""
        self._now[owner] += difference

    def write(self) -> None:
        """Write the usage that differs from what was locked."""
        changed = [
            {"of_owner": owner, **used._asdict()} for owner, used in self._now.items() if used != self._before[owner]
        ]
        _WRITE.run(self._connection, changed)


def read_usage(connection: sa.Connection, owner: str) -> Usage:
    """Return what `owner` uses."""
    row = connection.execute(_READ, {"owner": owner}).one_or_none()
    return Usage() if row is None else Usage(*row)
