"""Write operations, many in one transaction.

Expected failures (a quota, a repeated key, a lost race) are detected under a lock before any media is written. So they
cost the other operations of the batch little, and need no savepoint.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from broker.domain.access.quota import Quota, Usage, footprint
from broker.domain.announcement import Announcement
from broker.domain.media import Media, State
from broker.errors import QuotaExceeded
from broker.store import outbox
from broker.store.at_once import add_at_once
from broker.store.batching.batcher import Operation
from broker.store.ledger import Ledger
from broker.store.prepared import Prepared, PreparedInsert
from broker.store.rows import COLUMNS, NAMES, is_among
from broker.store.schema import PROMOTING
from broker.store.schema import media as table
from broker.store.standalone import StandaloneOperation


@dataclass(slots=True)
class Add(Operation[Media]):
    """Record a media within a quota; return the media that is recorded under its idempotency key."""

    media: Media
    quota: Quota


@dataclass(slots=True)
class Change(Operation[Media | None]):
    """Set `values` of a media if it is still as it was `before`, and return it; return None otherwise."""

    before: Media
    values: dict[str, Any]
    """The columns to set. The others, and the indexes on them, are left alone."""
    announced: Sequence[Announcement] = ()
    """The announcements of the change, written if and only if the change is."""
    after: Media = field(init=False)
    difference: Usage = field(init=False)
    """The usage that the change adds to its owner's."""

    def __post_init__(self) -> None:
        self.after = self.before._replace(**self.values)
        self.difference = footprint(self.after) - footprint(self.before)


@dataclass(slots=True)
class Claim(Operation[list[Media]]):
    """Lease at most `limit` due media, the longest overdue first.

    A promotion of more than one attempt is claimed only a lease after it is due. So if S3 refuses each copy, the sweep
    tries it again once in a lease; a client may take it over at once.

    A promotion whose lease ends later than one that begins now, by more than CLOCK_SKEW, counts as due as well: its
    lease was taken by a clock that was ahead, or this clock has jumped back.
    """

    now: datetime
    lease_until: datetime
    limit: int
    composes: bool = True
    """Whether to claim media that may have to be composed."""


CLOCK_SKEW = timedelta(minutes=1)
"""How far the clocks of replicas may differ without one of them taking over the other's leases."""
_NOTHING = Usage()
_REPEATED = sa.select(*COLUMNS).where(
    sa.tuple_(table.c.owner, table.c.idempotency_key).in_(sa.bindparam("keys", expanding=True)),
    table.c.idempotency_key.is_not(None),
)
_INSERT = PreparedInsert(table, NAMES)


@lru_cache
def _update(names: tuple[str, ...]) -> Prepared:
    """Return the statement that sets these columns of one media; each kind of change has its own."""
    return Prepared(
        table.update().where(table.c.id == sa.bindparam("of_id")).values({name: sa.bindparam(name) for name in names})
    )


# A common table expression, because PostgreSQL may run a locking subquery more than once.
def _claim_where(*conditions: sa.ColumnElement[bool] | sa.TextClause) -> sa.UpdateBase:
    due = (
        sa.select(table.c.id)
        .where(*conditions)
        .order_by(table.c.due_at)
        .limit(sa.bindparam("at_most"))
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    return (
        table.update()
        .where(table.c.id.in_(sa.select(due.c.id)))
        .values(due_at=sa.bindparam("lease_until"), version=table.c.version + 1)
        .returning(*COLUMNS)
    )


_TRIED_AGAIN = sa.and_(PROMOTING, table.c.attempt > 1)
_DUE = sa.and_(
    table.c.due_at <= sa.bindparam("now"),
    sa.not_(sa.and_(_TRIED_AGAIN, table.c.due_at > sa.bindparam("a_lease_ago"))),
)
_STRAYS = sa.and_(PROMOTING, table.c.due_at > sa.bindparam("latest"))
_NOT_COMPOSED = sa.or_(table.c.part_size.is_(None), sa.text("state NOT IN ('pending', 'promoting', 'expired')"))
_CLAIMS = {
    True: (_claim_where(_DUE), _claim_where(_STRAYS)),
    False: (_claim_where(_DUE, _NOT_COMPOSED), _claim_where(_STRAYS, _NOT_COMPOSED)),
}
"""The claims of due media and of strays, by whether the caller composes."""


def apply(connection: sa.Connection, operations: Sequence[Operation[Any]]) -> list[object]:
    """Run all operations in the transaction of `connection`; return a result or an exception for each."""
    adds = [operation for operation in operations if isinstance(operation, Add)]
    if len(adds) == len(operations) and _added_at_once(connection, adds):
        return [add.media for add in adds]
    changes = [operation for operation in operations if isinstance(operation, Change)]
    ledger = Ledger(
        connection,
        [add.media.owner for add in adds]
        + [change.before.owner for change in changes if change.difference != _NOTHING],
    )
    added = iter(_add(connection, adds, ledger))
    changed = iter(_change(connection, changes, ledger))
    ledger.write()
    outcomes: list[object] = []
    for operation in operations:
        match operation:
            case Add():
                outcomes.append(next(added))
            case Change():
                outcomes.append(next(changed))
            case Claim():
                outcomes.append(_claim(connection, operation))
            case StandaloneOperation():
                outcomes.append(operation.run(connection))
    return outcomes


def _added_at_once(connection: sa.Connection, adds: Sequence[Add]) -> bool:
    """Try to record all of `adds` by one statement of PostgreSQL; return whether they are recorded."""
    if connection.dialect.name != "postgresql" or len({add.quota for add in adds}) != 1:
        return False
    keys = [(add.media.owner, add.media.idempotency_key) for add in adds if add.media.idempotency_key is not None]
    if len(set(keys)) < len(keys):
        return False
    return add_at_once(connection, _INSERT, [add.media for add in adds], adds[0].quota)


def _add(connection: sa.Connection, adds: Sequence[Add], ledger: Ledger) -> list[Media | QuotaExceeded]:
    """Record the new media that fit. One with a repeated key is the media that is recorded under this key."""
    recorded = _recorded(connection, [add.media for add in adds if add.media.idempotency_key is not None])
    new: list[Media] = []
    outcomes: list[Media | QuotaExceeded] = []
    for add in adds:
        media = add.media
        key = (media.owner, media.idempotency_key)
        if (earlier := recorded.get(key)) is not None:
            outcomes.append(earlier)
        elif (exceeded := ledger.reserve(media, add.quota)) is not None:
            outcomes.append(exceeded)
        else:
            outcomes.append(media)
            new.append(media)
            if media.idempotency_key is not None:
                recorded[key] = media
    _INSERT.run(connection, new)
    return outcomes


def _recorded(connection: sa.Connection, media: Sequence[Media]) -> dict[tuple[str, str | None], Media]:
    """Return what is recorded under the idempotency keys of `media`, by the owner and the key."""
    if not media:
        return {}
    rows = connection.execute(_REPEATED, {"keys": [(each.owner, each.idempotency_key) for each in media]})
    return {(earlier.owner, earlier.idempotency_key): earlier for earlier in map(Media._make, rows)}


@lru_cache
def _current(dialect: str) -> sa.Select[Any]:
    """Return the query that locks media, in sorted order to prevent deadlocks."""
    return (
        sa.select(table.c.id, table.c.state, table.c.version)
        .where(is_among("ids", dialect))
        .order_by(table.c.id)
        .with_for_update()
    )


def _change(connection: sa.Connection, changes: Sequence[Change], ledger: Ledger) -> list[Media | None]:
    if not changes:
        return []
    ids = {change.before.id for change in changes}
    found = connection.execute(_current(connection.dialect.name), {"ids": list(ids)})
    current: dict[UUID, tuple[State, int]] = {media_id: (state, version) for media_id, state, version in found}
    outcomes: list[Media | None] = []
    rows_to_set: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    announced: list[Announcement] = []
    for change in changes:
        before, after = change.before, change.after
        if current.get(before.id) != (before.state, before.version):
            outcomes.append(None)
            continue
        del current[before.id]  # a further change in this batch cannot know this one's outcome
        if change.difference != _NOTHING:
            ledger.move(before.owner, change.difference)
        rows_to_set.setdefault(tuple(change.values), []).append({**change.values, "of_id": after.id})
        announced += change.announced
        outcomes.append(after)
    for names, rows in rows_to_set.items():
        _update(names).run(connection, rows)
    outbox.write(connection, announced)
    return outcomes


def _claim(connection: sa.Connection, claim: Claim) -> list[Media]:
    lease = {"lease_until": claim.lease_until}
    due, strays = _CLAIMS[claim.composes]
    instants = {"now": claim.now, "a_lease_ago": claim.now - (claim.lease_until - claim.now)}
    rows = [*connection.execute(due, {"at_most": claim.limit, **instants, **lease})]
    if room := claim.limit - len(rows):
        latest = claim.lease_until + CLOCK_SKEW
        rows += connection.execute(strays, {"latest": latest, "at_most": room, **lease})
    return sorted(map(Media._make, rows), key=lambda media: media.id)
