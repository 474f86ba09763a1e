"""The store of media: one schema and one `Store`, over SQLite (embedded) and PostgreSQL (production)."""

from broker.store.migration import is_current, migrate, pending_revision, require_current
from broker.store.outbox import Outbox, OutboxBacklog
from broker.store.reads import Backlog
from broker.store.store import Store

__all__ = [
    "Backlog",
    "Outbox",
    "OutboxBacklog",
    "Store",
    "is_current",
    "migrate",
    "pending_revision",
    "require_current",
]
