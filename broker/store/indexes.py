"""The indexes of the tables, which migrations build.

They stand apart because to declare a partial index of PostgreSQL loads all of SQLAlchemy that knows PostgreSQL, three
megabytes, and who only reads and writes rows never looks at an index.
"""

import sqlalchemy as sa

from broker.store.schema import METADATA, PENDING, media, outbox

__all__ = ["METADATA"]

# A list, the sweep, the gauges and a repeated request: each reads one range of one index (a list one for each state).
sa.Index("ix_media_state", media.c.owner, media.c.state, media.c.id)
_IS_DUE = media.c.due_at.is_not(None)
sa.Index("ix_media_due", media.c.due_at, sqlite_where=_IS_DUE, postgresql_where=_IS_DUE)
sa.Index("ix_media_pending", media.c.created_at, sqlite_where=PENDING, postgresql_where=PENDING)
_HAS_KEY = media.c.idempotency_key.is_not(None)
sa.Index(
    "uq_media_idempotency",
    media.c.owner,
    media.c.idempotency_key,
    unique=True,
    sqlite_where=_HAS_KEY,
    postgresql_where=_HAS_KEY,
)
_WAITS = outbox.c.next_at.is_not(None)
sa.Index("ix_outbox_due", outbox.c.target, outbox.c.next_at, sqlite_where=_WAITS, postgresql_where=_WAITS)
