"""The removal of rows: of finished media after their retention, and of all rows of an owner that is erased.

An erasure is recorded before anything of the owner is touched, so that a crash halfway loses nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from broker.domain.media import State
from broker.store.batching.batcher import Batcher
from broker.store.prepared import insert_absent
from broker.store.schema import ENDED, erasure, media, outbox, usage
from broker.store.standalone import StandaloneOperation


class Removal:
    """Remove rows in bounded batches. Each method raises DatabaseUnavailable."""

    def __init__(self, writes: Batcher, reads: Batcher) -> None:
        self._writes = writes
        self._reads = reads

    async def remove_ended(self, state: State, now: datetime, *, before: datetime, limit: int) -> int:
        """Remove at most `limit` media that entered `state` before an instant, with their webhooks; return how many.

        The sweep is done with them, and no webhook of theirs waits for its delivery at `now`. Their idempotency keys
        can be used anew.
        """
        return await self._writes.submit(_RemoveEnded(state, before, now, limit))

    async def date_ended(self, state: State, *, limit: int) -> int:
        """Date at most `limit` media that an earlier release ended without a date, by their creation; return how many.

        Its replicas may still write such rows during an upgrade.
        """
        return await self._writes.submit(_DateEnded(state, limit))

    async def record_erasure(self, owner: str, now: datetime) -> None:
        """Record that `owner` is to be erased, and due at `now`; once more changes nothing else."""
        await self._writes.submit(_RecordErasure(owner, now))

    async def claim_erasures(self, now: datetime, *, next_at: datetime, limit: int) -> list[str]:
        """Return at most `limit` owners whose erasure is due, the longest overdue first; they are due again later."""
        return await self._writes.submit(_ClaimErasures(now, next_at, limit))

    async def remove_erased(self, owner: str, now: datetime, *, limit: int) -> int:
        """Remove at most `limit` deleted media of `owner` with their webhooks, and return their number.

        The sweep is done with them, and no webhook of theirs waits for its delivery.
        """
        return await self._writes.submit(_RemoveErased(owner, now, limit))

    async def forget_issuer(self, caller: str, *, limit: int) -> int:
        """Remove the name of `caller` from at most `limit` media that it issued on behalf of others; return how many.

        The idempotency keys of these media hold that name too. The media stay what they are for their owners.
        """
        return await self._writes.submit(_ForgetIssuer(caller, limit))

    async def finish_erasure(self, owner: str) -> bool:
        """Remove what is left of `owner`, and return True, if no media names it any more.

        That is its usage, webhooks whose media are gone, and the record of the erasure.
        """
        return await self._writes.submit(_FinishErasure(owner))

    async def count_of(self, owner: str) -> int:
        """Return the number of rows of media that `owner` has, in any state."""
        return await self._reads.submit(_Count(media.c.owner == owner))

    async def count_issued(self, caller: str) -> int:
        """Return the number of rows of media that `caller` issued on behalf of others."""
        return await self._reads.submit(_Count(sa.and_(media.c.issued_by == caller, media.c.owner != caller)))


def _some_where(*conditions: sa.ColumnElement[bool] | sa.TextClause) -> sa.CTE:
    """Return the ids of at most `at_most` rows that no other transaction has locked."""
    # A common table expression, because PostgreSQL may run a locking subquery more than once.
    return (
        sa.select(media.c.id)
        .where(*conditions)
        .order_by(media.c.ended_at)
        .limit(sa.bindparam("at_most"))
        .with_for_update(skip_locked=True, of=media)
        .cte("some")
    )


_IS_DONE_WITH = sa.and_(
    media.c.due_at.is_(None),
    ~sa.exists().where(
        outbox.c.media_id == media.c.id, outbox.c.next_at.is_not(None), outbox.c.give_up_at > sa.bindparam("now")
    ),
)
"""The sweep is done with the media, and no webhook of it waits for its delivery."""
_OF_STATE = (ENDED, media.c.state == sa.bindparam("of_state"))
_OLD = _some_where(*_OF_STATE, media.c.ended_at < sa.bindparam("before"), _IS_DONE_WITH)
_UNDATED = _some_where(*_OF_STATE, media.c.ended_at.is_(None))
_DATE = (
    media.update()
    .where(media.c.id.in_(sa.select(_UNDATED.c.id)))
    .values(ended_at=media.c.created_at)
    .returning(media.c.id)
)


def _remove(connection: sa.Connection, ids: Sequence[UUID]) -> int:
    """Remove these locked media with their webhooks, which hold the owner's data too; return the number of media."""
    connection.execute(outbox.delete().where(outbox.c.media_id.in_(ids)))
    return connection.execute(media.delete().where(media.c.id.in_(ids))).rowcount


@dataclass(slots=True)
class _RemoveEnded(StandaloneOperation[int]):
    state: State
    before: datetime
    now: datetime
    limit: int

    def run(self, connection: sa.Connection) -> int:
        old = {"of_state": self.state, "before": self.before, "now": self.now, "at_most": self.limit}
        return _remove(connection, connection.execute(sa.select(_OLD.c.id), old).scalars().all())


@dataclass(slots=True)
class _DateEnded(StandaloneOperation[int]):
    state: State
    limit: int

    def run(self, connection: sa.Connection) -> int:
        return len(connection.execute(_DATE, {"of_state": self.state, "at_most": self.limit}).all())


@dataclass(slots=True)
class _RecordErasure(StandaloneOperation[None]):
    owner: str
    now: datetime

    def run(self, connection: sa.Connection) -> None:
        connection.execute(insert_absent(erasure, connection.dialect.name), {"owner": self.owner, "next_at": self.now})
        connection.execute(erasure.update().where(erasure.c.owner == self.owner).values(next_at=self.now))


@dataclass(slots=True)
class _ClaimErasures(StandaloneOperation[list[str]]):
    now: datetime
    next_at: datetime
    limit: int

    def run(self, connection: sa.Connection) -> list[str]:
        due = (
            sa.select(erasure.c.owner)
            .where(erasure.c.next_at <= self.now)
            .order_by(erasure.c.next_at)
            .limit(self.limit)
            .with_for_update(skip_locked=True)
            .cte("due")
        )
        claim = erasure.update().where(erasure.c.owner.in_(sa.select(due.c.owner))).values(next_at=self.next_at)
        return sorted(connection.execute(claim.returning(erasure.c.owner)).scalars())


@dataclass(slots=True)
class _RemoveErased(StandaloneOperation[int]):
    owner: str
    now: datetime
    limit: int

    def run(self, connection: sa.Connection) -> int:
        gone = (
            sa.select(media.c.id)
            .where(media.c.owner == self.owner, media.c.state == State.DELETED, _IS_DONE_WITH)
            .limit(self.limit)
            .with_for_update(skip_locked=True, of=media)
        )
        return _remove(connection, connection.execute(gone, {"now": self.now}).scalars().all())


@dataclass(slots=True)
class _ForgetIssuer(StandaloneOperation[int]):
    caller: str
    limit: int

    def run(self, connection: sa.Connection) -> int:
        issued = (
            sa.select(media.c.id)
            .where(media.c.issued_by == self.caller)
            .limit(self.limit)
            .with_for_update(skip_locked=True, of=media)
            .cte("issued")
        )
        forget = media.update().where(media.c.id.in_(sa.select(issued.c.id)))
        forgotten = forget.values(issued_by=None, idempotency_key=None).returning(media.c.id)
        return len(connection.execute(forgotten).all())


@dataclass(slots=True)
class _FinishErasure(StandaloneOperation[bool]):
    owner: str

    def run(self, connection: sa.Connection) -> bool:
        # An addition locks the usage first; skipping a locked row leaves the erasure to a later turn, without deadlock.
        mine = usage.c.owner == self.owner
        known = connection.execute(sa.select(sa.func.count()).select_from(usage).where(mine)).scalar_one()
        locked = connection.execute(sa.select(usage.c.owner).where(mine).with_for_update(skip_locked=True)).all()
        names_it = (media.c.owner == self.owner, media.c.issued_by == self.owner)
        left = any(connection.execute(sa.select(media.c.id).where(each).limit(1)).first() for each in names_it)
        if left or len(locked) < known:
            return False
        # An earlier release removed media and left webhooks that had been given up.
        connection.execute(outbox.delete().where(outbox.c.data["owner"].as_string() == self.owner))
        connection.execute(usage.delete().where(mine))
        connection.execute(erasure.delete().where(erasure.c.owner == self.owner))
        return True


@dataclass(slots=True)
class _Count(StandaloneOperation[int]):
    condition: sa.ColumnElement[bool]

    def run(self, connection: sa.Connection) -> int:
        count: int = connection.execute(
            sa.select(sa.func.count()).select_from(media).where(self.condition)
        ).scalar_one()
        return count
