"""Media as rows and back."""

from collections.abc import Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

from sqlalchemy import Row

from broker.media import Media
from broker.store.schema import media as table

COLUMNS = tuple(table.c[field.name] for field in fields(Media))
"""The columns in the order of Media's fields."""

_NAMES = tuple(column.name for column in COLUMNS)

_FIXED = frozenset({"id", "owner", "state", "version", "created_at", "idempotency_key"})
CHANGEABLE = tuple(name for name in _NAMES if name not in _FIXED)
"""What a caller may change: not what identifies a media, nor what the store itself moves."""

_values = attrgetter(*_NAMES)


def row_of(media: Media) -> dict[str, Any]:
    """Return the row that records `media`."""
    return dict(zip(_NAMES, _values(media), strict=True))


def media_of(row: Row[Any] | Sequence[Any]) -> Media:
    """Return the media that a row of COLUMNS records."""
    return Media(**dict(zip(_NAMES, row, strict=True)))
