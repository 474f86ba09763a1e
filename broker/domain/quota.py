"""What an owner uses and may use: counted from the states, in one place."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from operator import add, sub
from typing import NamedTuple

from broker.domain.media import Media, State
from broker.errors import QuotaExceeded


class Usage(NamedTuple):
    """Count what an owner holds: media and bytes."""

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
        """Return what is stored and promised together."""
        return self.stored_bytes + self.promised_bytes


@dataclass(frozen=True, slots=True)
class Quota:
    """Limit what one owner may hold at a time; None: no limit. The names are those of `Usage`.

    `stored_bytes` bounds what is stored and promised together, since a promise that is kept is stored next.
    """

    pending_count: int | None = None
    promised_bytes: int | None = None
    stored_bytes: int | None = None
    media_count: int | None = None

    def reserve(self, used: Usage, asked: Usage) -> Usage:
        """Return what is used with `asked`. Raises QuotaExceeded, with the numbers, where that does not fit."""
        after = used + asked
        if not self._holds(after):
            self._refuse(used, asked)
        return after

    def _holds(self, after: Usage) -> bool:
        return (
            (self.pending_count is None or after.pending_count <= self.pending_count)
            and (self.promised_bytes is None or after.promised_bytes <= self.promised_bytes)
            and (self.stored_bytes is None or after.stored_bytes + after.promised_bytes <= self.stored_bytes)
            and (self.media_count is None or after.media_count <= self.media_count)
        )

    def _refuse(self, used: Usage, asked: Usage) -> None:
        """Raise for the limit that `asked` passes; of one that was passed before it may ask nothing."""
        for name, limit, in_use, more in (
            ("pending_count", self.pending_count, used.pending_count, asked.pending_count),
            ("promised_bytes", self.promised_bytes, used.promised_bytes, asked.promised_bytes),
            ("stored_bytes", self.stored_bytes, used.kept_bytes, asked.kept_bytes),
            ("media_count", self.media_count, used.media_count, asked.media_count),
        ):
            if limit is not None and more and in_use + more > limit:
                raise QuotaExceeded(quota=name, limit=limit, used=in_use, asked=more)


def total(parts: Iterable[Usage]) -> Usage:
    """Return what all of at least one part are together."""
    return Usage._make(map(sum, zip(*parts, strict=True)))


def footprint(media: Media) -> Usage:
    """Return what one media takes from its owner's quota in the state that it is in.

    What is rejected, expired or being deleted takes nothing.
    """
    return _footprint(media.state, media.promised_bytes, media.size)


@lru_cache  # many are promised the same size, and most are new
def _footprint(state: State, promised_bytes: int, size: int | None) -> Usage:
    match state:
        case State.PENDING | State.PROMOTING:
            return Usage(pending_count=1, promised_bytes=promised_bytes, media_count=1)
        case State.READY:
            return Usage(stored_bytes=size or 0, media_count=1)
        case _:
            return Usage()
