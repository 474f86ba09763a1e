"""Media as rows: the fields of `Media` are the columns of the table."""

from broker.domain.media import Media
from broker.store.schema import media as table

NAMES = Media._fields
"""The names of Media's fields and of the columns."""

COLUMNS = tuple(table.c[name] for name in NAMES)
"""The columns in the same order, so that `Media._make` takes a row."""

_FIXED = frozenset({"id", "owner", "state", "version", "created_at", "idempotency_key", "issued_by", "allow_link"})
CHANGEABLE = tuple(name for name in NAMES if name not in _FIXED)
"""The fields that a caller may change: not those that identify a media, nor those that the store moves."""
