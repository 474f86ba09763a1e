"""The clock: the only source of the time."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""A function that returns the current time, aware and in UTC; tests pass their own."""


def utc_now() -> datetime:
    """Return the current time."""
    return datetime.now(UTC)
