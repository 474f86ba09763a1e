"""A media as a row: the members of one are the columns of the other."""

from broker.domain.media import Media
from broker.store.schema import media as table

NAMES = Media._fields
"""The names of Media's members, which are those of the columns."""

COLUMNS = tuple(table.c[name] for name in NAMES)
"""The columns in the same order: `Media._make` takes what they hold, and a media is what they are to hold."""

_FIXED = frozenset({"id", "owner", "state", "version", "created_at", "idempotency_key"})
CHANGEABLE = tuple(name for name in NAMES if name not in _FIXED)
"""What a caller may change: not what identifies a media, nor what the store itself moves."""
