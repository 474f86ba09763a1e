"""The usage of owners, locked for one transaction."""

from collections.abc import Iterable

import sqlalchemy as sa

from broker.domain.access.quota import Quota, Usage, footprint
from broker.domain.media import Media
from broker.errors import QuotaExceeded
from broker.store.prepared import Prepared, insert_absent
from broker.store.schema import qualified
from broker.store.schema import usage as table

_COLUMNS = tuple(table.c[name] for name in Usage._fields)
_OPEN_ON_SQLITE = Prepared(insert_absent(table, "sqlite"))
_OPEN_IN_ORDER = f"""
INSERT INTO {{usage}} (owner, {", ".join(Usage._fields)})
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
    """Lock the usage of `owners`, add and subtract in memory, and write the rows that changed.

    All rows are locked by one statement, in sorted order and before any row of a media, to prevent deadlocks. The lock
    also puts an owner's additions in order, so that a repeated idempotency key can be looked up first.
    """

    def __init__(self, connection: sa.Connection, owners: Iterable[str]) -> None:
        self._connection = connection
        wanted = sorted(set(owners))
        self._before = self._lock(wanted)
        # An erasure removes the row of an owner, so a row that was just opened may be gone again.
        while unopened := [owner for owner in wanted if owner not in self._before]:
            self._open(unopened)
            self._before = self._lock(wanted)
        self._now = dict(self._before)

    def _open(self, owners: list[str]) -> None:
        """Insert usage rows for new owners, in sorted order to prevent deadlocks."""
        self._connection.rollback()
        if self._connection.dialect.name == "sqlite":  # has a single writer, so no deadlock
            _OPEN_ON_SQLITE.run(self._connection, [{"owner": owner, **Usage()._asdict()} for owner in owners])
        else:
            statement = _OPEN_IN_ORDER.format(usage=qualified(table, self._connection))
            self._connection.exec_driver_sql(statement, {"owners": owners})
            self._connection.commit()

    def _lock(self, owners: list[str]) -> dict[str, Usage]:
        if not owners:
            return {}
        rows = self._connection.execute(_LOCK, {"owners": owners})
        return {owner: Usage(*counters) for owner, *counters in rows}

    def reserve(self, media: Media, quota: Quota) -> QuotaExceeded | None:
        """Reserve quota for a new media; if that exceeds a limit, return the reason and reserve nothing."""
        try:
            self._now[media.owner] = quota.reserve(self._now[media.owner], footprint(media))
        except QuotaExceeded as exceeded:
            return exceeded
        return None

    def move(self, owner: str, difference: Usage) -> None:
        """Add `difference`, which may be negative."""
        self._now[owner] += difference

    def write(self) -> None:
        """Write the rows whose usage has changed since they were locked."""
        changed = [
            {"of_owner": owner, **used._asdict()} for owner, used in self._now.items() if used != self._before[owner]
        ]
        _WRITE.run(self._connection, changed)


def read_usage(connection: sa.Connection, owner: str) -> Usage:
    """Return the usage of `owner`."""
    row = connection.execute(_READ, {"owner": owner}).one_or_none()
    return Usage() if row is None else Usage(*row)
