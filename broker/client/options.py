"""The options of an upload, as keyword arguments of both clients."""

from collections.abc import Callable, Mapping
from typing import Required, TypedDict

OnProgress = Callable[[int, int], object]
"""Called with the bytes sent and the file's size. An exception that it raises ends the upload, and is raised."""


class Description(TypedDict, total=False):
    """The description of an upload."""

    filename: str
    owner: str
    """The user on whose behalf the upload is issued; needs the permission `media:delegate`."""
    allow_link: bool
    """With `owner`: whether the upload token also gets a link once the media is ready."""
    metadata: Mapping[str, str]
    """Flat strings, at most 2 KB as JSON."""
    duration_seconds: float


class Promised(Description, total=False):
    """The description of an upload whose file another client sends."""

    size: int
    """Bytes; S3 then refuses any other size."""
    checksum_sha256: str
    """Base64. S3 then refuses other bytes."""
    checksum_crc64nvme: str
    """Base64, for an upload in parts."""
    resumable: bool
    redirect_url: str


class NewUpload(Promised, total=False):
    """One upload of `issue_many`."""

    content_type: Required[str]


class IssueOptions(Promised, total=False):
    """The options of `issue`."""

    idempotency_key: str
    """Repeating a key returns the same media. By default a random one."""


class UploadOptions(Description, total=False):
    """The options of `upload`."""

    content_type: str
    """By default, from the file's name."""
    resumable_over: int
    """Files of more bytes go in parts; 32 MiB by default."""
    on_progress: OnProgress
    idempotency_key: str
    """Repeating a key returns the same media. By default a random one."""
