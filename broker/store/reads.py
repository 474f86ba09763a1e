"""Read operations, answered in batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from broker.domain.access.quota import Usage
from broker.domain.media import GONE, Media, State
from broker.errors import MediaNotFound
from broker.store.batching.batcher import Operation
from broker.store.ledger import read_usage
from broker.store.rows import COLUMNS, is_among
from broker.store.schema import PENDING
from broker.store.schema import media as table
from broker.store.standalone import StandaloneOperation


@dataclass(frozen=True, slots=True)
class Get(Operation[Media]):
    """Read one media of `owner`, or of any owner if that is None."""

    media_id: UUID
    owner: str | None


@dataclass(frozen=True, slots=True)
class FindIssued(Operation[Media | None]):
    """Read the media that `owner` issued with `own_key`, or any caller with `issuers_key` on behalf of an owner."""

    owner: str
    own_key: str
    issuers_key: str


@dataclass(frozen=True, slots=True)
class ReadPage(Operation[list[Media]]):
    """Read at most `limit` visible media older than `before`, the newest first."""

    owner: str | None
    state: State | None
    limit: int
    before: UUID | None


@dataclass(frozen=True, slots=True)
class ReadUsage(Operation[Usage]):
    """Read the usage of an owner."""

    owner: str


@dataclass(frozen=True, slots=True)
class Backlog:
    """The number of pending media, the oldest of them, and the oldest media that the sweep owes a visit."""

    pending_count: int
    oldest_pending_at: datetime | None
    oldest_due_at: datetime | None


@dataclass(frozen=True, slots=True)
class ReadBacklog(Operation[Backlog]):
    """Read the backlog."""


@dataclass(frozen=True, slots=True)
class Ping(Operation[None]):
    """Check that the database answers and was migrated."""


_ISSUED = sa.union_all(
    sa.select(*COLUMNS).where(
        table.c.owner == sa.bindparam("owner"), table.c.idempotency_key == sa.bindparam("own_key")
    ),
    sa.select(*COLUMNS).where(table.c.issued_by.is_not(None), table.c.idempotency_key == sa.bindparam("issuers_key")),
).limit(1)
_PENDING = sa.select(sa.func.count(), sa.func.min(table.c.created_at)).where(PENDING)
_OLDEST_DUE = sa.select(sa.func.min(table.c.due_at))
_PING = sa.select(*COLUMNS).where(sa.false())
"""Reads no row, but fails unless the table has every column."""


def answer(connection: sa.Connection, operations: Sequence[Operation[Any]]) -> list[object]:
    """Run all operations; the lookups of a batch are one query."""
    media_by_id: dict[UUID, Media] = {}
    if ids := {operation.media_id for operation in operations if isinstance(operation, Get)}:
        for media in map(Media._make, connection.execute(_get(connection.dialect.name), {"ids": list(ids)})):
            media_by_id[media.id] = media
    outcomes: list[object] = []
    for operation in operations:
        match operation:
            case Get(media_id, owner):
                record = media_by_id.get(media_id)
                visible = record is not None and owner in (None, record.owner)
                outcomes.append(record if visible else MediaNotFound())
            case FindIssued(owner, own_key, issuers_key):
                keys = {"owner": owner, "own_key": own_key, "issuers_key": issuers_key}
                row = connection.execute(_ISSUED, keys).one_or_none()
                outcomes.append(row and Media._make(row))
            case ReadPage():
                outcomes.append(_page(connection, operation))
            case ReadUsage(owner):
                outcomes.append(read_usage(connection, owner))
            case StandaloneOperation():
                outcomes.append(operation.run(connection))
            case ReadBacklog():
                outcomes.append(_backlog(connection))
            case _:
                outcomes.append(connection.execute(_PING) and None)
    return outcomes


@lru_cache
def _get(dialect: str) -> sa.Select[Any]:
    return sa.select(*COLUMNS).where(is_among("ids", dialect))


def _page(connection: sa.Connection, page: ReadPage) -> list[Media]:
    states = [state for state in ([page.state] if page.state else State) if state not in GONE]
    if not states:
        return []
    query = _newest(tuple(states), of_owner=page.owner is not None, before=page.before is not None)
    parameters = {"owner": page.owner, "before": page.before, "at_most": page.limit}
    return [Media._make(row) for row in connection.execute(query, parameters)]


@lru_cache
def _newest(states: tuple[State, ...], *, of_owner: bool, before: bool) -> sa.Select[Any]:
    """Return the query of a page; it reads one range of the index for each state."""
    newest_of = sa.select(table.c.id).order_by(table.c.id.desc()).limit(sa.bindparam("at_most"))
    if of_owner:
        newest_of = newest_of.where(table.c.owner == sa.bindparam("owner"))
    if before:
        newest_of = newest_of.where(table.c.id < sa.bindparam("before"))
    ids = sa.union_all(*(sa.select(newest_of.where(table.c.state == state).subquery()) for state in states)).subquery()
    newest = sa.select(ids.c.id).order_by(ids.c.id.desc()).limit(sa.bindparam("at_most"))
    return sa.select(*COLUMNS).where(table.c.id.in_(newest)).order_by(table.c.id.desc())


def _backlog(connection: sa.Connection) -> Backlog:
    pending_count, oldest_pending_at = connection.execute(_PENDING).one()
    return Backlog(pending_count, oldest_pending_at, connection.execute(_OLDEST_DUE).scalar())
