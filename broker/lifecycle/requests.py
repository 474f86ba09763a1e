"""The requests and answers of the verbs."""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from broker.domain.media import Media, State


class UploadRequest(NamedTuple):
    """A client's request to upload. Sizes are bytes, durations seconds, the checksum is base64."""

    content_type: str
    size: int | None = None
    filename: str | None = None
    duration_seconds: float | None = None
    checksum_sha256: str | None = None
    metadata: dict[str, str] | None = None
    redirect_url: str | None = None
    owner: str | None = None
    """The user on whose behalf a backend asks; None if the caller asks for itself."""
    allow_link: bool | None = None
    """Whether the upload token may also get a link."""
    resumable: bool | None = None
    checksum_crc64nvme: str | None = None

    def digest(self) -> str:
        """Return a digest that differs for different requests, as 64 hex digits.

        Unset fields are left out, so that adding a field in a later version does not change the digest of earlier
        requests.
        """
        fields = {name: value for name, value in self._asdict().items() if value not in (None, {})}
        if not self.resumable:
            fields.pop("resumable", None)
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


class Terms(NamedTuple):
    """The terms on which an upload is issued: by default the caller's own, as it asked."""

    owner: str
    metadata: dict[str, str]
    idempotency_key: str | None
    issued_by: str | None = None
    """The caller, if another one will own the media."""
    allow_link: bool | None = None


class PartForm(NamedTuple):
    """The form of one part: its number, its exact size in bytes, and the fields that no other part shares."""

    number: int
    size: int
    fields: dict[str, str]


class PartsPage(NamedTuple):
    """A page of the parts of a resumable media: which have arrived, and forms for missing ones.

    A form is sent with the common `fields`, its own, and the part as `file`, to `url`. `next_from` is the first number
    of the next page, or None on the last one.
    """

    media: Media
    url: str
    fields: dict[str, str]
    forms: list[PartForm]
    arrived: list[int]
    next_from: int | None
    expires_in: int
    expires_at: datetime


class Issued(NamedTuple):
    """The answer to an issue: the media and, while it is pending, the form's address and fields, or forms of parts."""

    media: Media
    url: str
    fields: dict[str, str]
    expires_in: int
    expires_at: datetime
    parts: PartsPage | None = None


class Playback(NamedTuple):
    """A link to a ready media; it expires at `expires_at`, `expires_in` seconds from now."""

    media: Media
    signed_url: str
    expires_in: int
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class FormUploaded:
    """The address for a browser after the upload of a plain form, and the state of the media."""

    redirect_url: str
    status: State
