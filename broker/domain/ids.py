"""The ids of media: UUIDv7s with a timestamp and 74 random bits."""

import os
from datetime import UTC, datetime, timedelta
from uuid import UUID

# Integers, because a float does not hold every millisecond.
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def new_id(now: datetime) -> UUID:
    """Return a UUIDv7 whose timestamp is `now`, to the millisecond.

    Source: RFC 9562, section 5.7. The standard library has none before Python 3.14, and that one reads the clock.
    """
    milliseconds = (now - _EPOCH) // _MILLISECOND
    random = int.from_bytes(os.urandom(10))
    value = milliseconds << 80 | 0x7 << 76 | (random >> 4 & 0xFFF) << 64 | 0b10 << 62 | random >> 18
    return UUID(int=value)


def created_on(media_id: UUID) -> datetime:
    """Return the instant that a UUIDv7 carries."""
    return _EPOCH + (media_id.int >> 80) * _MILLISECOND
