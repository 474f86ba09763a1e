"""The life of a media: what one is, which states it knows, and which event leads where.

Everything that changes a state is a row of `TRANSITIONS`; there is no other way.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple
from uuid import UUID

from broker.errors import IllegalTransition


class State(StrEnum):
    """Where a media stands."""

    PENDING = "pending"
    PROMOTING = "promoting"
    READY = "ready"
    REJECTED = "rejected"
    EXPIRED = "expired"
    DELETING = "deleting"
    DELETED = "deleted"


class Event(StrEnum):
    """What may happen to a media."""

    MATCH = "HEAD matches"
    DIFFER = "HEAD differs"
    PROMOTE = "copied and compared"
    OVERWRITE = "staging was overwritten"
    GIVE_UP = "overwritten too often"
    EXPIRE = "policy expired, nothing there"
    DELETE = "delete"
    PURGE = "objects gone, policy expired"


class Transition(NamedTuple):
    """One row of the table: in `source`, on `event`, to `target`, provided that `guard` holds."""

    source: State
    event: Event
    target: State
    guard: str


TRANSITIONS = (
    Transition(State.PENDING, Event.MATCH, State.PROMOTING, "etag, size, type and checksum are recorded"),
    Transition(State.PENDING, Event.DIFFER, State.REJECTED, "the staging object is purged"),
    Transition(State.PENDING, Event.EXPIRE, State.EXPIRED, "a last HEAD found nothing after the grace"),
    Transition(State.PROMOTING, Event.PROMOTE, State.READY, "the final object is the one that was judged"),
    Transition(State.PROMOTING, Event.OVERWRITE, State.PENDING, "judged again, a bounded number of times"),
    Transition(State.PROMOTING, Event.GIVE_UP, State.REJECTED, "the bound is reached"),
    Transition(State.PENDING, Event.DELETE, State.DELETING, "the owner, or an administrator"),
    Transition(State.PROMOTING, Event.DELETE, State.DELETING, "the owner, or an administrator"),
    Transition(State.READY, Event.DELETE, State.DELETING, "the owner, or an administrator"),
    Transition(State.REJECTED, Event.DELETE, State.DELETING, "the owner, or an administrator"),
    Transition(State.EXPIRED, Event.DELETE, State.DELETING, "the owner, or an administrator"),
    Transition(State.DELETING, Event.PURGE, State.DELETED, "no policy can bring an object back"),
)
INITIAL = State.PENDING
GONE = frozenset({State.DELETING, State.DELETED})
"""The states in which a media is no longer shown to anybody."""
NOTHING_BESIDE: dict[str, str] = {}
"""The metadata of who gave none; shared, so that nobody changes it."""

_TARGETS = MappingProxyType({(row.source, row.event): row.target for row in TRANSITIONS})


def next_state(state: State, event: Event) -> State:
    """Return the state to which `event` leads from `state`.

    Raises IllegalTransition where the table has no such row.
    """
    try:
        return _TARGETS[state, event]
    except KeyError:
        raise IllegalTransition(state=state, event=event) from None


@dataclass(frozen=True, slots=True)
class Arrived:
    """Say what S3 answered to a HEAD: the size in bytes, the ETag without quotes, the type, and a checksum.

    `checksum` is `<algorithm>:<base64>`, such as `CRC64NVME:…`. `etag_is_md5` is false under SSE-KMS and SSE-C, where
    a copy gets another ETag than its source (Amazon S3 API Reference, "Object": ETag).
    """

    size: int
    etag: str
    content_type: str
    checksum: str | None = None
    etag_is_md5: bool = True

    def same_object(self, other: "Arrived") -> bool:
        """Tell whether two answers describe the same bytes of the same type, as far as S3 can tell."""
        if (self.size, self.content_type) != (other.size, other.content_type):
            return False
        algorithm = (self.checksum or "").partition(":")[0]
        comparable = algorithm and other.checksum and other.checksum.startswith(f"{algorithm}:")
        if comparable and self.checksum != other.checksum:
            return False
        if self.etag_is_md5 and other.etag_is_md5:
            return self.etag == other.etag
        return bool(comparable)


@dataclass(frozen=True, slots=True)
class Video:
    """Say what was seen in a video: how long it is, in seconds, as far as that can be told, and its first picture."""

    seconds: float | None
    codec: str
    width: int | None
    height: int | None


class Media(NamedTuple):
    """Hold the record of one upload and its object; give the members by name.

    Sizes are bytes, instants are aware and in UTC. The first block is what was promised, the second what was judged.
    """

    id: UUID
    owner: str
    content_type: str
    max_size: int
    created_at: datetime
    policy_expires_at: datetime
    state: State = INITIAL
    version: int = 0
    """Counts the changes of this record; a change names the version it was decided on."""

    promised_size: int | None = None
    promised_sha256: str | None = None
    filename: str | None = None
    duration_seconds: float | None = None
    metadata: dict[str, str] = NOTHING_BESIDE
    redirect_url: str | None = None
    idempotency_key: str | None = None
    idempotency_digest: str | None = None

    size: int | None = None
    etag: str | None = None
    checksum: str | None = None
    """`<algorithm>:<base64>`, such as `CRC64NVME:…`, where S3 keeps one."""
    etag_is_md5: bool = True
    judgements: int = 0
    """How often a HEAD was judged; an overwritten staging object is judged again."""
    ready_at: datetime | None = None
    differences: str | None = None

    due_at: datetime | None = None
    """When the sweep must look at it; None: never again."""

    measured_seconds: float | None = None
    """How long the video is, where that was looked up; `duration_seconds` is what its client said."""
    codec: str | None = None
    width: int | None = None
    height: int | None = None

    @property
    def judged(self) -> Arrived | None:
        """Return what was judged, once it was."""
        if self.size is None or self.etag is None:
            return None
        return Arrived(self.size, self.etag, self.content_type, self.checksum, self.etag_is_md5)

    @property
    def video(self) -> Video | None:
        """Return what was seen in the video, where it was looked into."""
        return None if self.codec is None else Video(self.measured_seconds, self.codec, self.width, self.height)

    @property
    def promised_bytes(self) -> int:
        """Return how many bytes the policy lets in at most."""
        return self.max_size if self.promised_size is None else self.promised_size
