"""Where media are kept: one schema, one `Store`, over SQLite (embedded) and PostgreSQL (production)."""

from broker.store.migration import is_current, migrate, pending_revision
from broker.store.outbox import Outbox, UntoldBacklog
from broker.store.reads import Backlog
from broker.store.store import Store

__all__ = ["Backlog", "Outbox", "Store", "UntoldBacklog", "is_current", "migrate", "pending_revision"]
