"""The clock: the only source of the time.

Instants that are recorded come from a `Clock`. Durations within a process are measured by a `Stopwatch`, because the
wall clock may jump.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""A function that returns the current time, aware and in UTC; tests pass their own."""

Stopwatch = Callable[[], float]
"""A function that returns monotonic seconds from an arbitrary start; tests pass their own."""
monotonic: Stopwatch = time.monotonic


def utc_now() -> datetime:
    """Return the current time."""
    return datetime.now(UTC)
