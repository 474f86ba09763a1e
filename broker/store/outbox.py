"""The webhook outbox.

Rows are written in the transaction of the state change, claimed in batches, and deleted on delivery.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

from broker.domain.announcement import Announcement
from broker.store.batching.batcher import Batcher
from broker.store.prepared import PreparedInsert, insert_absent
from broker.store.schema import disabled_target, outbox
from broker.store.standalone import StandaloneOperation

_NAMES = tuple(field.name for field in fields(Announcement))
_COLUMNS = tuple(outbox.c[name] for name in _NAMES)
_values = attrgetter(*_NAMES)
_INSERT = PreparedInsert(outbox, _NAMES)


@dataclass(frozen=True, slots=True)
class OutboxBacklog:
    """The number of waiting announcements, the instant of the oldest one, and the number given up."""

    waiting: int
    oldest_waiting_at: datetime | None
    given_up: int


class Outbox:
    """Hand out due announcements and record the outcome. Each method raises DatabaseUnavailable."""

    def __init__(self, writes: Batcher, reads: Batcher) -> None:
        self._writes = writes
        self._reads = reads

    async def claim(self, target: str, now: datetime, *, lease_until: datetime, limit: int) -> list[Announcement]:
        """Claim at most `limit` due announcements for `target` and return them; none while it is disabled.

        No other caller claims them before `lease_until`. Of one media only the earliest waiting one is claimed.
        """
        return await self._writes.submit(_Claim(target, now, lease_until, limit))

    async def delivered(self, announcement: Announcement) -> None:
        """Delete a delivered announcement."""
        await self._writes.submit(_Remove(announcement))

    async def postpone(self, announcement: Announcement, next_at: datetime | None, failure: str) -> None:
        """Count a failed attempt and retry at `next_at`; None gives up. After a lost lease nothing changes."""
        await self._writes.submit(_Postpone(announcement, next_at, failure))

    async def disable(self, target: str, now: datetime) -> None:
        """Send nothing to `target` until it is enabled."""
        await self._writes.submit(_Disable(target, now))

    async def retry(self, targets: Sequence[str], now: datetime, *, give_up_at: datetime) -> int:
        """Enable the targets, make all their announcements due at once, and return the number of these."""
        return await self._writes.submit(_Retry(tuple(targets), now, give_up_at))

    async def tidy(self, now: datetime, *, forget_before: datetime) -> None:
        """Give up announcements that waited too long, and delete those given up that are older than `forget_before`."""
        await self._writes.submit(_Tidy(now, forget_before))

    async def kept(self, limit: int) -> list[Announcement]:
        """Return at most `limit` announcements, waiting or given up, the oldest first."""
        return await self._reads.submit(_Kept(limit))

    async def disabled(self) -> dict[str, datetime]:
        """Return the disabled targets, and when each was disabled."""
        return await self._reads.submit(_Disabled())

    async def backlog(self) -> OutboxBacklog:
        """Return the backlog of the targets that are not disabled, and the number given up."""
        return await self._reads.submit(_ReadBacklog())


def write(connection: sa.Connection, announcements: Sequence[Announcement]) -> None:
    """Insert announcements in the transaction of their change of state."""
    _INSERT.run(connection, [_values(announcement) for announcement in announcements])


_ENABLED = ~sa.exists().where(disabled_target.c.target == outbox.c.target)
_earlier = outbox.alias("earlier")
# A common table expression, because PostgreSQL may run a locking subquery more than once.
_DUE = (
    sa.select(outbox.c.media_id, outbox.c.version, outbox.c.target)
    .where(
        outbox.c.target == sa.bindparam("of_target"),
        outbox.c.next_at <= sa.bindparam("now"),
        _ENABLED,
        ~sa.exists().where(
            _earlier.c.media_id == outbox.c.media_id,
            _earlier.c.target == outbox.c.target,
            _earlier.c.version < outbox.c.version,
            _earlier.c.next_at.is_not(None),
        ),
    )
    .order_by(outbox.c.next_at)
    .limit(sa.bindparam("at_most"))
    .with_for_update(skip_locked=True, of=outbox)
    .cte("due")
)
_KEY = sa.tuple_(outbox.c.media_id, outbox.c.version, outbox.c.target)
_CLAIM = (
    outbox.update()
    .where(_KEY.in_(sa.select(_DUE.c.media_id, _DUE.c.version, _DUE.c.target)))
    .values(next_at=sa.bindparam("lease_until"))
    .returning(*_COLUMNS)
)


@dataclass(slots=True)
class _Claim(StandaloneOperation[list[Announcement]]):
    target: str
    now: datetime
    lease_until: datetime
    limit: int

    def run(self, connection: sa.Connection) -> list[Announcement]:
        rows = connection.execute(
            _CLAIM,
            {"of_target": self.target, "now": self.now, "lease_until": self.lease_until, "at_most": self.limit},
        )
        return sorted(map(_announcement, rows), key=attrgetter("at"))


@dataclass(slots=True)
class _Remove(StandaloneOperation[None]):
    announcement: Announcement

    def run(self, connection: sa.Connection) -> None:
        connection.execute(outbox.delete().where(_is(self.announcement)))


@dataclass(slots=True)
class _Postpone(StandaloneOperation[None]):
    announcement: Announcement
    next_at: datetime | None
    failure: str

    def run(self, connection: sa.Connection) -> None:
        held = _is(self.announcement) & (outbox.c.next_at == self.announcement.next_at)
        values = {"next_at": self.next_at, "failure": self.failure, "attempts": self.announcement.attempts + 1}
        connection.execute(outbox.update().where(held).values(values))


@dataclass(slots=True)
class _Disable(StandaloneOperation[None]):
    target: str
    now: datetime

    def run(self, connection: sa.Connection) -> None:
        connection.execute(
            insert_absent(disabled_target, connection.dialect.name), {"target": self.target, "disabled_at": self.now}
        )


@dataclass(slots=True)
class _Retry(StandaloneOperation[int]):
    targets: tuple[str, ...]
    now: datetime
    give_up_at: datetime

    def run(self, connection: sa.Connection) -> int:
        connection.execute(disabled_target.delete().where(disabled_target.c.target.in_(self.targets)))
        kept = outbox.update().where(outbox.c.target.in_(self.targets))
        return connection.execute(kept.values(next_at=self.now, give_up_at=self.give_up_at)).rowcount


@dataclass(slots=True)
class _Tidy(StandaloneOperation[None]):
    now: datetime
    forget_before: datetime

    def run(self, connection: sa.Connection) -> None:
        late = outbox.update().where(outbox.c.next_at.is_not(None), outbox.c.give_up_at < self.now)
        connection.execute(late.values(next_at=None))
        connection.execute(outbox.delete().where(outbox.c.next_at.is_(None), outbox.c.at < self.forget_before))


@dataclass(slots=True)
class _Kept(StandaloneOperation[list[Announcement]]):
    limit: int

    def run(self, connection: sa.Connection) -> list[Announcement]:
        query = sa.select(*_COLUMNS).order_by(outbox.c.at, outbox.c.version).limit(self.limit)
        return [_announcement(row) for row in connection.execute(query)]


@dataclass(slots=True)
class _Disabled(StandaloneOperation[dict[str, datetime]]):
    def run(self, connection: sa.Connection) -> dict[str, datetime]:
        rows = connection.execute(sa.select(disabled_target.c.target, disabled_target.c.disabled_at))
        return dict(tuple(row) for row in rows)


@dataclass(slots=True)
class _ReadBacklog(StandaloneOperation[OutboxBacklog]):
    def run(self, connection: sa.Connection) -> OutboxBacklog:
        waiting = sa.select(sa.func.count(), sa.func.min(outbox.c.at)).where(outbox.c.next_at.is_not(None), _ENABLED)
        given_up = sa.select(sa.func.count()).where(outbox.c.next_at.is_(None))
        count, oldest_at = connection.execute(waiting).one()
        return OutboxBacklog(count, oldest_at, connection.execute(given_up).scalar_one())


def _is(announcement: Announcement) -> sa.ColumnElement[bool]:
    return sa.and_(
        outbox.c.media_id == announcement.media_id,
        outbox.c.version == announcement.version,
        outbox.c.target == announcement.target,
    )


def _announcement(row: Sequence[Any]) -> Announcement:
    return Announcement(**dict(zip(_NAMES, row, strict=True)))
