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

FIXED = frozenset({"id", "owner", "state", "version", "created_at", "idempotency_key"})
"""What no caller changes: what identifies a media, and what the store itself moves."""

_NAMES = tuple(column.name for column in COLUMNS)
_values = attrgetter(*_NAMES)


def row_of(media: Media) -> dict[str, Any]:
    """Return the row that records `media`."""
    return dict(zip(_NAMES, _values(media), strict=True))


def media_of(row: Row[Any] | Sequence[Any]) -> Media:
    """Return the media that a row of COLUMNS records."""
    return Media(**dict(zip(_NAMES, row, strict=True)))
