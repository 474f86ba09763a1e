"""The bodies of requests and responses, each with an example."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal, NotRequired
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    TypeAdapter,
    ValidationInfo,
    WithJsonSchema,
    with_config,
)
from pydantic_core import SchemaSerializer
from typing_extensions import TypedDict

from broker.domain.media import State
from broker.domain.owners import MAX_OWNER_LENGTH, is_owner

EXAMPLE_ID = "01980f2c-6b1e-7c3a-9d52-0f6a4f1be7a3"
EXAMPLE_URL = f"https://videos.s3.eu-central-1.amazonaws.com/media/a3/2026/11/23/{EXAMPLE_ID}.mp4?X-Amz-Algorithm=…"
SHA256_PATTERN = "^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$"
CRC64NVME_PATTERN = "^[A-Za-z0-9+/]{10}[AEIMQUYcgkosw048]=$"
"""The base64 forms of 32 and 8 bytes. S3 refuses stray bits in the last character."""
DELETED_MESSAGE = "The media is gone; its objects are being removed."
EXAMPLE_VIDEO = {"seconds": 12.48, "codec": "h264", "width": 1920, "height": 1080}


def _without_nul(text: str) -> str:
    if "\x00" in text:
        raise ValueError("should hold no NUL character")
    return text


def _sha256(text: str) -> str:
    if re.fullmatch(SHA256_PATTERN, text) is None:
        raise ValueError("should be the base64 form of a SHA-256 digest, 44 characters")
    return text


def _crc64nvme(text: str) -> str:
    if re.fullmatch(CRC64NVME_PATTERN, text) is None:
        raise ValueError("should be the base64 form of a CRC64NVME checksum, 12 characters")
    return text


def _owner(text: str) -> str:
    if not is_owner(text):
        raise ValueError("should be printable, without surrounding spaces")
    return text


def _with_owner(allowed: bool, info: ValidationInfo) -> bool:
    if info.data.get("owner") is None:
        raise ValueError("should come with owner")
    return allowed


Owner = Annotated[StrictStr, Field(min_length=1, max_length=MAX_OWNER_LENGTH), AfterValidator(_owner)]

# Built-in constraints come first; placed after a Python validator, pydantic would run them in Python too.
_NO_NUL = AfterValidator(_without_nul)
Text = Annotated[StrictStr, _NO_NUL]
Sha256 = Annotated[StrictStr, AfterValidator(_sha256), WithJsonSchema({"type": "string", "pattern": SHA256_PATTERN})]
Crc64Nvme = Annotated[
    StrictStr, AfterValidator(_crc64nvme), WithJsonSchema({"type": "string", "pattern": CRC64NVME_PATTERN})
]


def _example(**members: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [members]})


def _answer(**members: Any) -> ConfigDict:
    """Return the configuration of a response body; FastAPI only describes it, so no validator is built."""
    return _example(**members) | ConfigDict(defer_build=True)


class UploadBody(BaseModel):
    """Ask for an upload. Only `content_type` is needed; a known `size` makes the policy exact."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True) | _example(
        content_type="video/mp4", size=4_190_112, filename="holiday.mp4", duration_seconds=12.5, metadata={"album": "7"}
    )

    content_type: Annotated[StrictStr, Field(min_length=3, max_length=255), _NO_NUL]
    """The media type, such as `video/mp4`; parameters are dropped."""
    size: Annotated[StrictInt, Field(ge=0, le=2**53)] | None = None
    """The file's size in bytes."""
    filename: Annotated[StrictStr, Field(max_length=255), _NO_NUL] | None = None
    """The file's name, as its user knows it; never part of an S3 key."""
    duration_seconds: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] | None = None
    """The declared length of the video."""
    checksum_sha256: Sha256 | None = None
    """The SHA-256 of the file, base64: S3 itself then refuses other bytes."""
    metadata: dict[Text, Text] | None = None
    """Your own flat strings, at most 2 KB as JSON; stored and returned."""
    redirect_url: Annotated[StrictStr, Field(max_length=2048), _NO_NUL] | None = None
    """The page to which the browser is sent after a plain form's upload; its origin must be configured."""
    owner: Owner | None = None
    """The user on whose behalf a backend asks; needs `media:delegate`. The answer then carries an `upload_token`."""
    allow_link: Annotated[StrictBool, AfterValidator(_with_owner)] | None = None
    """Whether the `upload_token` also gets a link once the media is ready; only with `owner`."""
    resumable: StrictBool | None = None
    """Whether to upload in parts, in any order and in parallel; needs `size`, and is required above 5 GiB."""
    checksum_crc64nvme: Crc64Nvme | None = None
    """The CRC64NVME of the whole file, base64, for a resumable upload; other bytes are rejected."""


class UploadsBody(BaseModel):
    """Ask for up to 100 uploads. A body that is not valid is refused as a whole; other refusals are of one upload."""

    model_config = ConfigDict(extra="forbid")

    uploads: Annotated[list[UploadBody], Field(min_length=1, max_length=100)]


class PartForm(TypedDict):
    """The form of one part: send the common fields, these, then exactly `size` bytes as `file`."""

    number: int
    size: int
    fields: dict[str, str]


class Parts(TypedDict):
    """A page of parts: which have arrived, and forms for missing ones."""

    url: str
    part_size: int
    count: int
    fields: dict[str, str]
    """The fields that all forms of this page share."""
    forms: list[PartForm]
    arrived: list[int]
    next_from: int | None
    """The first part of the next page; null on the last one."""


class UploadForm(TypedDict):
    """The form in the shape that upload libraries expect: post `fields`, then `file`, to `url`, without own headers."""

    method: Literal["POST"]
    url: str
    fields: dict[str, str]
    headers: dict[str, str]


@with_config(
    _answer(
        success=True,
        media_id=EXAMPLE_ID,
        status="pending",
        upload={
            "method": "POST",
            "url": "https://videos.s3.eu-central-1.amazonaws.com/",
            "fields": {
                "Content-Type": "video/mp4",
                "success_action_status": "201",
                "key": f"staging/a3/{EXAMPLE_ID}",
                "x-amz-algorithm": "AWS4-HMAC-SHA256",
                "x-amz-credential": "AKIAIOSFODNN7EXAMPLE/20261123/eu-central-1/s3/aws4_request",
                "x-amz-date": "20261123T120000Z",
                "policy": "eyJleHBpcmF0aW9uIjo…",
                "x-amz-signature": "5f2b…",
            },
            "headers": {},
        },
        expires_at="2026-11-23T12:15:00Z",
        expires_in=900,
        max_size=4_190_112,
        complete_url=f"https://api.example/api/v1/s3-media/{EXAMPLE_ID}/complete",
    )
)
class Issued(TypedDict):
    """The policy for one upload."""

    success: Literal[True]
    media_id: UUID
    status: State
    upload: UploadForm | None
    """Null for a resumable upload, and once the media is no longer pending."""
    expires_at: datetime
    expires_in: int
    max_size: int
    complete_url: str
    upload_token: NotRequired[str]
    """Only if the media's owner is not the caller: a bearer token to upload, complete, watch and cancel this media."""
    parts: NotRequired[Parts | None]
    """The forms of the first parts of a resumable upload; null once the media is no longer pending."""
    parts_url: NotRequired[str]
    upload_expires_at: NotRequired[datetime | None]
    """Until when `parts_url` issues forms."""


@with_config(ConfigDict(defer_build=True))
class IssuedUploads(TypedDict):
    """The outcome of each upload, in the order of the request: its policy, or the problem of its refusal."""

    success: Literal[True]
    uploads: list["Issued | RefusedUpload"]


@with_config(
    _answer(
        success=True,
        media_id=EXAMPLE_ID,
        status="pending",
        parts={
            "url": "https://videos.s3.eu-central-1.amazonaws.com/",
            "part_size": 16_777_216,
            "count": 250,
            "fields": {
                "Content-Type": "video/mp4",
                "success_action_status": "201",
                "x-amz-algorithm": "AWS4-HMAC-SHA256",
                "x-amz-credential": "AKIAIOSFODNN7EXAMPLE/20261123/eu-central-1/s3/aws4_request",
                "x-amz-date": "20261123T120000Z",
            },
            "forms": [
                {
                    "number": 3,
                    "size": 16_777_216,
                    "fields": {
                        "key": f"staging/a3/{EXAMPLE_ID}/00003",
                        "policy": "eyJleHBpcmF0aW9uIjo…",
                        "x-amz-signature": "5f2b…",
                    },
                }
            ],
            "arrived": [1, 2],
            "next_from": 101,
        },
        expires_at="2026-11-23T12:15:00Z",
        expires_in=900,
        upload_expires_at="2026-11-24T12:00:00Z",
        complete_url=f"https://api.example/api/v1/s3-media/{EXAMPLE_ID}/complete",
    )
)
class PartsPage(TypedDict):
    """A page of the parts of a resumable upload. The forms expire at `expires_at`; ask again for fresh ones."""

    success: Literal[True]
    media_id: UUID
    status: State
    parts: Parts
    expires_at: datetime
    expires_in: int
    upload_expires_at: datetime | None
    complete_url: str


class Video(TypedDict):
    """The probed properties of a video."""

    seconds: float | None
    """The length; null if it is unknown."""
    codec: str
    width: int | None
    """Pixels, as displayed: after rotation and the shape of the pixels."""
    height: int | None


class Resumption(TypedDict):
    """The way to resume a media: whether it has parts, and while it is pending, where its client goes on."""

    resumable: bool
    parts_url: NotRequired[str]
    """Only while a resumable upload is pending: where its missing parts get fresh forms."""
    upload_expires_at: NotRequired[datetime | None]
    """With `parts_url`: until when it issues forms."""


class Media(Resumption):
    """A media as its owner sees it."""

    media_id: UUID
    status: State
    content_type: str
    size: int | None
    filename: str | None
    duration_seconds: float | None
    """As the client declared it."""
    video: Video | None
    """Null unless videos are probed (BROKER_PROBE)."""
    metadata: dict[str, str]
    created_at: datetime
    ready_at: datetime | None


@with_config(
    _answer(
        success=True,
        media_id=EXAMPLE_ID,
        status="ready",
        content_type="video/mp4",
        size=4_190_112,
        filename="holiday.mp4",
        duration_seconds=12.5,
        metadata={"album": "7"},
        created_at="2026-11-23T12:00:00Z",
        ready_at="2026-11-23T12:00:09Z",
        resumable=False,
        video=EXAMPLE_VIDEO,
        etag="9b2cf535f27731c974343645a3985328",
        signed_url=EXAMPLE_URL,
        expires_in=3600,
        expires_at="2026-11-23T13:00:09Z",
        message="The media is ready.",
    )
)
class Playback(Media):
    """A ready media and a link to it."""

    success: Literal[True]
    etag: str | None
    signed_url: str | None
    """Null, like both expiries, for an upload token without `allow_link`."""
    expires_in: int | None
    expires_at: datetime | None
    message: str


@with_config(
    _answer(
        success=True,
        media=[
            {
                "media_id": EXAMPLE_ID,
                "status": "ready",
                "content_type": "video/mp4",
                "size": 4_190_112,
                "filename": "holiday.mp4",
                "duration_seconds": 12.5,
                "metadata": {"album": "7"},
                "created_at": "2026-11-23T12:00:00Z",
                "ready_at": "2026-11-23T12:00:09Z",
                "resumable": False,
                "video": EXAMPLE_VIDEO,
            }
        ],
        next_cursor="AZgPLGsefDqdUg9qTxvnow",
    )
)
class MediaList(TypedDict):
    """One page of media, newest first. `next_cursor` requests the next page; null on the last one."""

    success: Literal[True]
    media: list[Media]
    next_cursor: str | None


class AllowedType(TypedDict):
    """An allowed content type, with the other names and the file extensions by which systems know it."""

    content_type: str
    other_names: list[str]
    """Names that a request may use too; the broker replaces them by `content_type`."""
    extensions: list[str]
    """Without a dot; empty for a type that is not a video type of the broker's table."""


@with_config(
    _answer(
        success=True,
        types=[
            {
                "content_type": "video/quicktime",
                "other_names": ["video/mov", "video/x-quicktime"],
                "extensions": ["mov", "qt"],
            }
        ],
        min_size=1,
        max_size=107_374_182_400,
        max_form_size=5_368_709_120,
        part_size=16_777_216,
        max_parts=10_000,
        max_duration_seconds=300,
        max_metadata_size=2048,
    )
)
class Rules(TypedDict):
    """The rules for the uploads of a caller. Sizes are bytes.

    The quota and the application may refuse an upload all the same.
    """

    success: Literal[True]
    types: list[AllowedType]
    min_size: int
    max_size: int
    max_form_size: int
    """The maximum size of an upload in one form; a larger file, up to `max_size`, needs `resumable: true`."""
    part_size: int
    """The size of the parts of a resumable upload; for a file of more than 1,000 such parts it grows."""
    max_parts: int
    max_duration_seconds: int
    max_metadata_size: int
    """The maximum size of `metadata` as JSON."""


@with_config(_answer(success=True, media_id=EXAMPLE_ID, status="deleting", message=DELETED_MESSAGE))
class Deleted(TypedDict):
    """A media that is gone; its `status` stays `deleting` until its objects are removed too."""

    success: Literal[True]
    media_id: UUID
    status: State
    message: str


@with_config(_answer(success=True, owner="user-17", media_left=3, message="The owner is being erased."))
class Erased(TypedDict):
    """An owner that is being erased, and the number of media whose records are left; 0 once it is done."""

    success: Literal[True]
    owner: str
    media_left: int
    message: str


class S3Health(BaseModel):
    """The health of S3."""

    model_config = _answer(success=True, service="s3", bucket="videos", region="eu-central-1", status="healthy")

    success: bool
    service: Literal["s3"]
    bucket: str
    region: str
    status: Literal["healthy", "unhealthy"]


class Alive(BaseModel):
    """The state of the process."""

    model_config = _answer(success=True, status="alive")

    success: bool
    status: str


class ProblemDocument(BaseModel):
    """A problem (RFC 9457). Further members depend on `type`."""

    model_config = ConfigDict(extra="allow", defer_build=True)

    type: str
    title: str
    status: int
    detail: str
    success: Literal[False]


class RefusedUpload(ProblemDocument):
    """The problem of one upload among several."""


def serializer(answer: Any) -> SchemaSerializer:
    """Return a serializer for a response body, a typed dictionary."""
    adapter: TypeAdapter[Any] = TypeAdapter(answer)
    adapter.rebuild()  # its bodies defer their build; without this the adapter would keep a placeholder
    return adapter.serializer
