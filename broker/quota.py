"""What an owner uses and may use: counted from the states, in one place."""

from dataclasses import dataclass, fields

from broker.errors import QuotaExceeded
from broker.media import Media, State


@dataclass(frozen=True, slots=True)
class Usage:
    """Count what an owner holds: media and bytes."""

    pending_count: int = 0
    promised_bytes: int = 0
    stored_bytes: int = 0
    media_count: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.pending_count + other.pending_count,
            self.promised_bytes + other.promised_bytes,
            self.stored_bytes + other.stored_bytes,
            self.media_count + other.media_count,
        )

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(
            self.pending_count - other.pending_count,
            self.promised_bytes - other.promised_bytes,
            self.stored_bytes - other.stored_bytes,
            self.media_count - other.media_count,
        )


@dataclass(frozen=True, slots=True)
class Quota:
    """Limit what one owner may hold at a time; None: no limit. The names are those of `Usage`.

    `stored_bytes` bounds what is stored and promised together, since a promise that is kept is stored next.
    """

    pending_count: int | None = None
    promised_bytes: int | None = None
    stored_bytes: int | None = None
    media_count: int | None = None

    def check(self, used: Usage, asked: Usage) -> None:
        """Raise QuotaExceeded, with the numbers, when `asked` does not fit beside `used`."""
        for name in _NAMES:
            limit = getattr(self, name)
            if limit is None:
                continue
            in_use, more = _counted(used, name), _counted(asked, name)
            if more and in_use + more > limit:
                raise QuotaExceeded(quota=name, limit=limit, used=in_use, asked=more)


_NAMES = tuple(quota.name for quota in fields(Quota))


def _counted(usage: Usage, name: str) -> int:
    if name == "stored_bytes":
        return usage.stored_bytes + usage.promised_bytes
    count: int = getattr(usage, name)
    return count


def footprint(media: Media) -> Usage:
    """Return what one media takes from its owner's quota in the state that it is in.

    What is rejected, expired or being deleted takes nothing.
    """
    match media.state:
        case State.PENDING | State.PROMOTING:
            return Usage(pending_count=1, promised_bytes=media.promised_bytes, media_count=1)
        case State.READY:
            return Usage(stored_bytes=media.size or 0, media_count=1)
        case _:
            return Usage()
