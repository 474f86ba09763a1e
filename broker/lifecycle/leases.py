"""The lease of a promotion: its end, and when another caller may take over.

The end is recorded as `due_at`, by the wall clock of the replica that took the lease. Wall clocks jump, and those of
two replicas may differ by hours. So a lease also counts as expired once this process has watched the row unchanged for
the duration of a lease, by its monotonic clock. To take over too early does no harm, because each attempt to promote
has a final key of its own.
"""

from collections import OrderedDict
from datetime import datetime, timedelta
from uuid import UUID

from broker.clock import Clock, Stopwatch
from broker.domain.media import Media

LEASE = timedelta(seconds=120)
"""The duration of a lease. Once it expires, another caller may take over."""
MAX_WATCHED = 10_000


class Leases:
    """Take leases, and watch those of other callers."""

    def __init__(self, clock: Clock, stopwatch: Stopwatch) -> None:
        self._clock = clock
        self._stopwatch = stopwatch
        self._watched: OrderedDict[UUID, tuple[int, float]] = OrderedDict()

    def end(self) -> datetime:
        """Return the end of a lease that is taken now."""
        return self._clock() + LEASE

    def has_expired(self, media: Media) -> bool:
        """Return whether the lease on a media has expired, as far as this process can tell."""
        if media.due_at is None or media.due_at <= self._clock():
            return True
        now = self._stopwatch()
        version, since = self._watched.get(media.id, (None, now))
        if version != media.version:
            self._watched[media.id] = (media.version, now)
            self._watched.move_to_end(media.id)
            if len(self._watched) > MAX_WATCHED:
                self._watched.popitem(last=False)
            return False
        return now - since >= LEASE.total_seconds()
