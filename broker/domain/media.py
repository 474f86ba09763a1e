"""The media record, its states, and the table of their transitions.

Every change of state is a row of `TRANSITIONS`; there is no other way.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple
from uuid import UUID

from broker.domain.parts import Layout
from broker.errors import IllegalTransition


class State(StrEnum):
    """The states of a media."""

    PENDING = "pending"
    PROMOTING = "promoting"
    READY = "ready"
    REJECTED = "rejected"
    EXPIRED = "expired"
    DELETING = "deleting"
    DELETED = "deleted"


class Event(StrEnum):
    """The events that change the state of a media."""

    MATCH = "HEAD matches"
    DIFFER = "HEAD differs"
    PROMOTE = "copied and compared"
    OVERWRITE = "staging was overwritten"
    GIVE_UP = "overwritten too often"
    EXPIRE = "policy expired, nothing there"
    DELETE = "delete"
    PURGE = "objects gone, policy expired"


class Transition(NamedTuple):
    """One row of the table: from `source`, on `event`, to `target`, if `guard` holds."""

    source: State
    event: Event
    target: State
    guard: str


TRANSITIONS = (
    Transition(State.PENDING, Event.MATCH, State.PROMOTING, "etag, size, type and checksum are recorded"),
    Transition(State.PENDING, Event.DIFFER, State.REJECTED, "the staging object is purged"),
    Transition(State.PENDING, Event.EXPIRE, State.EXPIRED, "a last HEAD found nothing after the grace"),
    Transition(State.EXPIRED, Event.MATCH, State.PROMOTING, "an upload that began in time arrived late"),
    Transition(State.PROMOTING, Event.PROMOTE, State.READY, "the final object is the one that was judged"),
    Transition(State.PROMOTING, Event.OVERWRITE, State.PENDING, "judged again, a bounded number of times"),
    Transition(State.PROMOTING, Event.GIVE_UP, State.REJECTED, "the bound is reached"),
    Transition(State.PROMOTING, Event.DIFFER, State.REJECTED, "the object composed of parts is not the promised one"),
    Transition(State.PENDING, Event.DELETE, State.DELETING, "the owner, an administrator, or the upload token"),
    Transition(State.PROMOTING, Event.DELETE, State.DELETING, "the owner, an administrator, or the upload token"),
    Transition(State.READY, Event.DELETE, State.DELETING, "the owner, or an administrator"),
    Transition(State.REJECTED, Event.DELETE, State.DELETING, "the owner, an administrator, or the upload token"),
    Transition(State.EXPIRED, Event.DELETE, State.DELETING, "the owner, an administrator, or the upload token"),
    Transition(State.DELETING, Event.PURGE, State.DELETED, "no policy can bring an object back"),
)
INITIAL = State.PENDING
GONE = frozenset({State.DELETING, State.DELETED})
"""The states in which a media is no longer shown to any client."""
ENDED = frozenset({State.REJECTED, State.EXPIRED, State.DELETED})
"""The states whose records are removed after a time that settings choose."""
NO_METADATA: dict[str, str] = {}
"""Shared default for media without metadata. Do not mutate."""

_TARGETS = MappingProxyType({(row.source, row.event): row.target for row in TRANSITIONS})


def next_state(state: State, event: Event) -> State:
    """Return the state to which `event` leads from `state`.

    Raises IllegalTransition if the table has no such row.
    """
    try:
        return _TARGETS[state, event]
    except KeyError:
        raise IllegalTransition(state=state, event=event) from None


@dataclass(frozen=True, slots=True)
class Arrived:
    """Describe an object as S3 answers a HEAD: size in bytes, ETag without quotes, type, and checksum.

    `checksum` is `<algorithm>:<base64>`, such as `CRC64NVME:…`. `etag_is_md5` is false under SSE-KMS and SSE-C: there
    the ETag of a copy differs from that of its source (Amazon S3 API Reference, "Object": ETag).
    """

    size: int
    etag: str
    content_type: str
    checksum: str | None = None
    etag_is_md5: bool = True

    def same_object(self, other: "Arrived") -> bool:
        """Return whether two descriptions are of the same bytes and type, as far as S3 can tell."""
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
    """The facts that the probe found in a video. `seconds` is None if the duration cannot be determined.

    `width` and `height` are pixels as displayed, after rotation.
    """

    seconds: float | None
    codec: str
    width: int | None
    height: int | None


class Media(NamedTuple):
    """The record of one upload and its object. Create it with keyword arguments.

    Sizes are bytes, instants are aware and in UTC. The first block was promised, the second was judged.
    """

    id: UUID
    owner: str
    content_type: str
    max_size: int
    created_at: datetime
    policy_expires_at: datetime
    state: State = INITIAL
    version: int = 0
    """The number of changes of this record; each change names the version on which it was decided."""

    promised_size: int | None = None
    promised_sha256: str | None = None
    filename: str | None = None
    duration_seconds: float | None = None
    metadata: dict[str, str] = NO_METADATA
    redirect_url: str | None = None
    idempotency_key: str | None = None
    idempotency_digest: str | None = None

    size: int | None = None
    etag: str | None = None
    checksum: str | None = None
    """`<algorithm>:<base64>`, such as `CRC64NVME:…`, if S3 keeps one."""
    etag_is_md5: bool = True
    judgements: int = 0
    """The number of judgements so far; an overwritten staging object is judged again."""
    ready_at: datetime | None = None
    differences: str | None = None

    due_at: datetime | None = None
    """The time at which the sweep must inspect it; None if never again."""

    measured_seconds: float | None = None
    """The duration that the probe measured; `duration_seconds` is what the client declared."""
    codec: str | None = None
    width: int | None = None
    height: int | None = None

    attempt: int = 0
    """The number of attempts to promote; each has a final key of its own, recorded here before the copy."""
    still_promised: bool = False
    """Whether it counts as promised although it was rejected or deleted, because its policy is still open."""

    issued_by: str | None = None
    """The caller that issued it on behalf of its owner; None if its owner did, or if that caller was erased."""
    allow_link: bool | None = None
    """Whether its upload token also gets a link; None if it has no upload token."""
    ended_at: datetime | None = None
    """When it was rejected, expired or deleted; None in other states, and if a release ended it that kept no date."""
    part_size: int | None = None
    """The size of its parts if it is resumable; the last one may be smaller."""
    upload_expires_at: datetime | None = None
    """Until when policies for its parts are issued; `policy_expires_at` is the end of the last one that was."""
    promised_crc64nvme: str | None = None
    parts_digest: str | None = None
    """The digest of the judged parts (domain/parts, `list_digest`)."""
    multipart_id: str | None = None
    """The id of S3's multipart upload that composes the judged parts under the final key of this attempt."""

    @property
    def judged(self) -> Arrived | None:
        """Return the judged object, or None before a judgement."""
        if self.size is None or self.etag is None:
            return None
        return Arrived(self.size, self.etag, self.content_type, self.checksum, self.etag_is_md5)

    @property
    def video(self) -> Video | None:
        """Return the facts of the probe, or None if the video was not probed."""
        return None if self.codec is None else Video(self.measured_seconds, self.codec, self.width, self.height)

    @property
    def layout(self) -> Layout:
        """Return the division into parts. Raises ValueError for a media that is not resumable."""
        if self.promised_size is None or self.part_size is None:
            raise ValueError("the media is not resumable")
        return Layout(self.promised_size, self.part_size)

    @property
    def accepts_until(self) -> datetime:
        """Return when its last policy expires: the form's, or the latest that a part may still get."""
        return self.upload_expires_at or self.policy_expires_at

    @property
    def promised_bytes(self) -> int:
        """Return the largest number of bytes that the policy admits."""
        return self.max_size if self.promised_size is None else self.promised_size
