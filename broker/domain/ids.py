"""The ids of media: UUIDv7s, drawn and read."""

import os
from datetime import UTC, datetime, timedelta
from uuid import UUID

# Whole numbers: a float does not hold every millisecond.
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

_TENS_AT_A_TIME = 400
_TENS: list[bytes] = []
os.register_at_fork(after_in_child=_TENS.clear)


def new_id(now: datetime) -> UUID:
    """Return a UUIDv7 whose timestamp is `now`, to the millisecond.

    Source: RFC 9562, section 5.7. The standard library's own takes no time, so that an id could not be frozen.
    """
    milliseconds = (now - _EPOCH) // _MILLISECOND
    random = int.from_bytes(_ten_random_bytes())
    value = milliseconds << 80 | 0x7 << 76 | (random >> 4 & 0xFFF) << 64 | 0b10 << 62 | random >> 18
    return UUID(int=value)


def _ten_random_bytes() -> bytes:
    """Return unguessable bytes; the system is asked for many at a time, as each call lets go of the interpreter."""
    while True:
        try:
            return _TENS.pop()  # at once, so that no two threads get the same
        except IndexError:
            drawn = os.urandom(10 * _TENS_AT_A_TIME)
            _TENS.extend(drawn[first : first + 10] for first in range(0, len(drawn), 10))


def created_on(media_id: UUID) -> datetime:
    """Return the instant that a UUIDv7 carries."""
    return _EPOCH + (media_id.int >> 80) * _MILLISECOND
