"""The answers about media: one with a link, a page of them, and their removal."""

from datetime import datetime
from typing import Literal, NotRequired
from uuid import UUID

from pydantic import with_config
from typing_extensions import TypedDict

from broker.api.schemas.answers import EXAMPLE_ID, answer_config
from broker.domain.media import State

EXAMPLE_URL = f"https://videos.s3.eu-central-1.amazonaws.com/media/a3/2026/11/23/{EXAMPLE_ID}.mp4?X-Amz-Algorithm=…"
EXAMPLE_VIDEO = {"seconds": 12.48, "codec": "h264", "width": 1920, "height": 1080}
DELETED_MESSAGE = "The media is gone; its objects are being removed."


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
    answer_config(
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
    answer_config(
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


@with_config(answer_config(success=True, media_id=EXAMPLE_ID, status="deleting", message=DELETED_MESSAGE))
class Deleted(TypedDict):
    """A media that is gone; its `status` stays `deleting` until its objects are removed too."""

    success: Literal[True]
    media_id: UUID
    status: State
    message: str


@with_config(answer_config(success=True, owner="user-17", media_left=3, message="The owner is being erased."))
class Erased(TypedDict):
    """An owner that is being erased, and how many media records still name it, as owner or issuer; 0 at the end."""

    success: Literal[True]
    owner: str
    media_left: int
    message: str
