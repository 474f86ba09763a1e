"""What only looks, several questions at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from broker.domain.media import GONE, Media, State
from broker.domain.quota import Usage
from broker.errors import MediaNotFound
from broker.store.batching import Operation
from broker.store.ledger import read_usage
from broker.store.outbox import OutboxOperation
from broker.store.rows import COLUMNS
from broker.store.schema import PENDING
from broker.store.schema import media as table


@dataclass(frozen=True, slots=True)
class Get(Operation[Media]):
    """Look a media up; `owner` None: anyone's."""

    media_id: UUID
    owner: str | None


@dataclass(frozen=True, slots=True)
class Page(Operation[list[Media]]):
    """Look up at most `limit` media that are shown, newest first, older than `before`."""

    owner: str | None
    state: State | None
    limit: int
    before: UUID | None


@dataclass(frozen=True, slots=True)
class UsageOf(Operation[Usage]):
    """Look up what an owner uses."""

    owner: str


@dataclass(frozen=True, slots=True)
class Backlog:
    """Say what waits: how many media are pending and since when, and since when the sweep is behind."""

    pending_count: int
    oldest_pending_at: datetime | None
    oldest_due_at: datetime | None


@dataclass(frozen=True, slots=True)
class LookAtBacklog(Operation[Backlog]):
    """Look up the backlog."""


@dataclass(frozen=True, slots=True)
class Ping(Operation[None]):
    """Ask the database for a sign of life, and whether it was migrated."""


_GET = sa.select(*COLUMNS).where(table.c.id.in_(sa.bindparam("ids", expanding=True)))
_PENDING = sa.select(sa.func.count(), sa.func.min(table.c.created_at)).where(PENDING)
_OLDEST_DUE = sa.select(sa.func.min(table.c.due_at))
_PING = sa.select(*COLUMNS).where(sa.false())
"""Answered without a look at any row, but only where the table has every column."""


def answer(connection: sa.Connection, operations: Sequence[Operation[Any]]) -> list[object]:
    """Answer all operations; the lookups of a batch are one query."""
    found: dict[UUID, Media] = {}
    if ids := {operation.media_id for operation in operations if isinstance(operation, Get)}:
        for media in map(Media._make, connection.execute(_GET, {"ids": list(ids)})):
            found[media.id] = media
    outcomes: list[object] = []
    for operation in operations:
        match operation:
            case Get(media_id, owner):
                known = found.get(media_id)
                shown = known is not None and owner in (None, known.owner)
                outcomes.append(known if shown else MediaNotFound())
            case Page():
                outcomes.append(_page(connection, operation))
            case UsageOf(owner):
                outcomes.append(read_usage(connection, owner))
            case OutboxOperation():
                outcomes.append(operation.run(connection))
            case LookAtBacklog():
                outcomes.append(_backlog(connection))
            case _:
                outcomes.append(connection.execute(_PING) and None)
    return outcomes


def _page(connection: sa.Connection, page: Page) -> list[Media]:
    states = [state for state in ([page.state] if page.state else State) if state not in GONE]
    if not states:
        return []
    query = _newest(tuple(states), of_owner=page.owner is not None, before=page.before is not None)
    given = {"owner": page.owner, "before": page.before, "at_most": page.limit}
    return [Media._make(row) for row in connection.execute(query, given)]


@lru_cache
def _newest(states: tuple[State, ...], *, of_owner: bool, before: bool) -> sa.Select[Any]:
    """Return the query of a page: in each state one range of the index, however many media there are."""
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
