"""The indexes of the tables, which migrations build.

They are a module of their own because declaring a partial index of PostgreSQL loads 3 MB of SQLAlchemy's PostgreSQL
dialect, which reading and writing rows does not need.
"""

import sqlalchemy as sa

from broker.store.schema import ENDED, METADATA, PENDING, PROMOTING, media, outbox

__all__ = ["METADATA"]

# The list, the sweep, the gauges and a repeated request each read one range of one index (the list: one per state).
sa.Index("ix_broker_media_state", media.c.owner, media.c.state, media.c.id)
_IS_DUE = media.c.due_at.is_not(None)
sa.Index("ix_broker_media_due", media.c.due_at, sqlite_where=_IS_DUE, postgresql_where=_IS_DUE)
sa.Index("ix_broker_media_pending", media.c.created_at, sqlite_where=PENDING, postgresql_where=PENDING)
sa.Index("ix_broker_media_promoting", media.c.due_at, sqlite_where=PROMOTING, postgresql_where=PROMOTING)
sa.Index("ix_broker_media_ended", media.c.state, media.c.ended_at, sqlite_where=ENDED, postgresql_where=ENDED)
_HAS_KEY = media.c.idempotency_key.is_not(None)
sa.Index(
    "uq_broker_media_idempotency",
    media.c.owner,
    media.c.idempotency_key,
    unique=True,
    sqlite_where=_HAS_KEY,
    postgresql_where=_HAS_KEY,
)
_ON_BEHALF = media.c.issued_by.is_not(None)
sa.Index("ix_broker_media_issuers_key", media.c.idempotency_key, sqlite_where=_ON_BEHALF, postgresql_where=_ON_BEHALF)
sa.Index("ix_broker_media_issued_by", media.c.issued_by, sqlite_where=_ON_BEHALF, postgresql_where=_ON_BEHALF)
_WAITS = outbox.c.next_at.is_not(None)
sa.Index("ix_broker_outbox_due", outbox.c.target, outbox.c.next_at, sqlite_where=_WAITS, postgresql_where=_WAITS)
