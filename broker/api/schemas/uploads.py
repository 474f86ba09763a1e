"""The answers of the routes that issue uploads: the policy of one, the parts of a resumable one."""

from datetime import datetime
from typing import Literal, NotRequired
from uuid import UUID

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from broker.api.schemas.answers import EXAMPLE_ID, answer_config
from broker.api.schemas.problems import RefusedUpload
from broker.domain.media import State


class UploadForm(TypedDict):
    """The form in the shape that upload libraries expect: post `fields`, then `file`, to `url`, without own headers."""

    method: Literal["POST"]
    url: str
    fields: dict[str, str]
    headers: dict[str, str]


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


@with_config(
    answer_config(
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
    uploads: list[Issued | RefusedUpload]


@with_config(
    answer_config(
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
