"""Usage and quotas of owners, counted from the states of their media."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from operator import add, sub
from typing import NamedTuple

from broker.domain.media import Media, State
from broker.errors import QuotaExceeded

_PROMISED = frozenset({State.PENDING, State.PROMOTING})


class Usage(NamedTuple):
    """Count the media and bytes of one owner."""

    pending_count: int = 0
    promised_bytes: int = 0
    stored_bytes: int = 0
    media_count: int = 0

    def __add__(self, other: "Usage") -> "Usage":  # type: ignore[override]
        return Usage._make(map(add, self, other))

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage._make(map(sub, self, other))

    @property
    def kept_bytes(self) -> int:
        """Return the sum of stored and promised bytes."""
        return self.stored_bytes + self.promised_bytes


@dataclass(frozen=True, slots=True)
class Quota:
    """Limit the usage of one owner; None means no limit. The names are those of `Usage`.

    `stored_bytes` bounds the sum of stored and promised bytes, because a kept promise is stored next.
    """

    pending_count: int | None = None
    promised_bytes: int | None = None
    stored_bytes: int | None = None
    media_count: int | None = None

    def reserve(self, used: Usage, requested: Usage) -> Usage:
        """Return the usage with `requested` added. Raises QuotaExceeded, with the numbers, if that exceeds a limit."""
        after = used + requested
        if not self._holds(after):
            self._refuse(used, requested)
        return after

    def _holds(self, after: Usage) -> bool:
        return (
            (self.pending_count is None or after.pending_count <= self.pending_count)
            and (self.promised_bytes is None or after.promised_bytes <= self.promised_bytes)
            and (self.stored_bytes is None or after.stored_bytes + after.promised_bytes <= self.stored_bytes)
            and (self.media_count is None or after.media_count <= self.media_count)
        )

    def _refuse(self, used: Usage, requested: Usage) -> None:
        """Raise for the limit that `requested` exceeds; an exceeded limit counts only if more of it is requested."""
        for name, limit, in_use, extra in (
            ("pending_count", self.pending_count, used.pending_count, requested.pending_count),
            ("promised_bytes", self.promised_bytes, used.promised_bytes, requested.promised_bytes),
            ("stored_bytes", self.stored_bytes, used.kept_bytes, requested.kept_bytes),
            ("media_count", self.media_count, used.media_count, requested.media_count),
        ):
            if limit is not None and extra and in_use + extra > limit:
                raise QuotaExceeded(quota=name, limit=limit, used=in_use, asked=extra)


def total(parts: Iterable[Usage]) -> Usage:
    """Return the sum of at least one usage."""
    return Usage._make(map(sum, zip(*parts, strict=True)))


def footprint(media: Media) -> Usage:
    """Return what one media takes from its owner's quota in its present state.

    A rejected or deleted media counts as promised until its policy can no longer bring an object back.
    """
    return _footprint(media.state, media.promised_bytes, media.size, media.still_promised)


@lru_cache  # many media are promised the same size, and most of them are new
def _footprint(state: State, promised_bytes: int, size: int | None, still_promised: bool) -> Usage:
    if state is State.READY:
        return Usage(stored_bytes=size or 0, media_count=1)
    if still_promised or state in _PROMISED:
        return Usage(pending_count=1, promised_bytes=promised_bytes, media_count=1)
    return Usage()
