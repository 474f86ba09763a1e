"""Announcements of a media's states to webhook targets, and the limit of their retries.

Source: Standard Webhooks specification, "Payload" and "Webhook metadata".
"""

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from broker.domain.media import Media, State

ANNOUNCED = frozenset({State.READY, State.REJECTED, State.EXPIRED, State.DELETED})
"""States that trigger a webhook. A media enters each at most once, except that an expired media whose late upload was
overwritten expires again; receivers recognize the repetition by its id."""
ON_READY = "on_ready"
"""The target that stands for a host application's own function; only ready media are announced to it."""
PATIENCE = timedelta(days=3)
"""A delivery is retried for this long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """Tell one target that a media reached a state, with the media's facts at that time."""

    media_id: UUID
    version: int
    """The media's version after the change; announcements of one media go out in this order."""
    target: str
    """The address of the webhook."""
    state: State
    at: datetime
    data: dict[str, Any]
    attempts: int = 0
    next_at: datetime | None
    """The time of the next attempt; None once delivery was given up."""
    give_up_at: datetime
    failure: str | None = None
    """The reason why the last attempt failed."""

    @property
    def message_id(self) -> str:
        """Return the id by which receivers deduplicate; it is the same for every attempt."""
        return f"msg_{self.media_id.hex}_{self.state}"

    @property
    def type(self) -> str:
        """Return the type of the event, such as `media.ready`."""
        return f"media.{self.state}"

    def body(self) -> str:
        """Return the JSON body that is signed and sent."""
        document = {"type": self.type, "timestamp": self.at.isoformat(), "data": self.data}
        return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def announcements(media: Media, targets: tuple[str, ...], now: datetime) -> list[Announcement]:
    """Return one announcement per target for a media that reached its state `now`; none unless it is in ANNOUNCED."""
    if media.state not in ANNOUNCED:
        return []
    return [
        Announcement(
            media_id=media.id,
            version=media.version,
            target=target,
            state=media.state,
            at=now,
            data=_data(media),
            next_at=now,
            give_up_at=now + PATIENCE,
        )
        for target in targets
        if target != ON_READY or media.state is State.READY
    ]


def _data(media: Media) -> dict[str, Any]:
    return {
        "media_id": str(media.id),
        "status": str(media.state),
        "owner": media.owner,
        "content_type": media.content_type,
        "size": media.size,
        "filename": media.filename,
        "duration_seconds": media.duration_seconds,
        "metadata": media.metadata,
        "created_at": media.created_at.isoformat(),
        "ready_at": media.ready_at and media.ready_at.isoformat(),
        "differences": media.differences,
        "video": media.video and asdict(media.video),
    }
