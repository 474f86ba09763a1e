"""Pure: what is told about a media, to whom, and until when.

Source: Standard Webhooks specification, "Payload" and "Webhook metadata".
"""

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from broker.domain.media import Media, State

ANNOUNCED = frozenset({State.READY, State.REJECTED, State.EXPIRED, State.DELETED})
"""The states whose reaching is told; a media reaches each of them at most once."""
PATIENCE = timedelta(days=3)
"""For how long a delivery is tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """Tell one target that a media reached a state, with what was known then."""

    media_id: UUID
    version: int
    """The media's version after the change; what is told of one media goes out in this order."""
    target: str
    """The address to tell."""
    state: State
    at: datetime
    data: dict[str, Any]
    attempts: int = 0
    next_at: datetime | None
    """When it is tried next; None: it was given up."""
    give_up_at: datetime
    failure: str | None = None
    """Why the last attempt failed."""

    @property
    def message_id(self) -> str:
        """Return what the receiver tells repetitions by: the same in every attempt."""
        return f"msg_{self.media_id.hex}_{self.state}"

    @property
    def type(self) -> str:
        """Return the type of the event, such as `media.ready`."""
        return f"media.{self.state}"

    def body(self) -> str:
        """Return the JSON that is sent and signed."""
        document = {"type": self.type, "timestamp": self.at.isoformat(), "data": self.data}
        return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def announcements(media: Media, targets: tuple[str, ...], now: datetime) -> list[Announcement]:
    """Return what is told of a media that reached its state `now`; nothing for a state that is nobody's business."""
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
