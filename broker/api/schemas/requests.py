"""The bodies of requests."""

import re
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationInfo,
    WithJsonSchema,
)

from broker.domain.access.owners import MAX_OWNER_LENGTH, is_owner

SHA256_PATTERN = "^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$"
CRC64NVME_PATTERN = "^[A-Za-z0-9+/]{10}[AEIMQUYcgkosw048]=$"
"""The base64 forms of 32 and 8 bytes. S3 refuses stray bits in the last character."""


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


class UploadBody(BaseModel):
    """Ask for an upload. Only `content_type` is needed; a known `size` makes the policy exact."""

    model_config = ConfigDict(
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_extra={
            "examples": [
                {
                    "content_type": "video/mp4",
                    "size": 4_190_112,
                    "filename": "holiday.mp4",
                    "duration_seconds": 12.5,
                    "metadata": {"album": "7"},
                }
            ]
        },
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
