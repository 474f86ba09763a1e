"""Media as rows and back."""

from collections.abc import Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

from sqlalchemy import Row

from broker.media import Media
from broker.store.schema import media as table

NAMES = tuple(field.name for field in fields(Media))
"""The names of Media's fields, which are those of the columns."""

COLUMNS = tuple(table.c[name] for name in NAMES)
"""The columns in the same order."""

_FIXED = frozenset({"id", "owner", "state", "version", "created_at", "idempotency_key"})
CHANGEABLE = tuple(name for name in NAMES if name not in _FIXED)
"""What a caller may change: not what identifies a media, nor what the store itself moves."""

_values = attrgetter(*NAMES)


def values_of(media: Media) -> tuple[Any, ...]:
    """Return what the row that records `media` holds, in the order of COLUMNS."""
    values: tuple[Any, ...] = _values(media)
    return values


def row_of(media: Media) -> dict[str, Any]:
    """Return the row that records `media`."""
    return dict(zip(NAMES, values_of(media), strict=True))


def media_of(row: Row[Any] | Sequence[Any]) -> Media:
    """Return the media that a row of COLUMNS records."""
    return Media(**dict(zip(NAMES, row, strict=True)))
