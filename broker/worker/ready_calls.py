"""The calls of a host application's `on_ready`: announcements that are delivered to a function of this process."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any
from uuid import UUID

import structlog

from broker import metrics
from broker.domain.announcement import Announcement
from broker.lifecycle.application.cancellation import only_own_cancellation
from broker.worker.sender import TIMEOUT_SECONDS, Answer

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyMedia:
    """A media that became ready. The size is bytes, durations are seconds, instants are aware and in UTC."""

    message_id: str
    """The same for every call about this media, so that a repeated one can be recognized."""
    media_id: UUID
    owner: str
    content_type: str
    size: int
    filename: str | None
    duration_seconds: float | None
    """As the client declared it."""
    metadata: Mapping[str, str]
    video: Mapping[str, Any] | None
    """The probed `seconds`, `codec`, `width` and `height`; None unless videos are probed."""
    created_at: datetime
    ready_at: datetime


ReadyHandler = Callable[[ReadyMedia], Awaitable[None]]
"""The application's function. Its return confirms the call; if it raises, it is called again later."""


class ReadyCalls:
    """Deliver announcements to `handler`, with the interface of the sender of webhooks."""

    def __init__(self, handler: ReadyHandler, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._handler = handler
        self._timeout_seconds = timeout_seconds

    async def send(self, announcement: Announcement, now: datetime) -> Answer:
        """Call the function once. Its failure is logged and returned, not raised."""
        try:
            async with asyncio.timeout(self._timeout_seconds) as limit:
                with metrics.HOOK_SECONDS.labels("ready").time(), only_own_cancellation():
                    await self._handler(_ready(announcement))
        except Exception as error:
            if limit.expired():
                return Answer(None, f"on_ready did not return within {self._timeout_seconds:g} seconds")
            log.exception("on_ready failed", media_id=str(announcement.media_id))
            return Answer(None, f"on_ready raised {type(error).__name__}")
        return Answer(HTTPStatus.OK)


def _ready(announcement: Announcement) -> ReadyMedia:
    data = announcement.data
    names = ("owner", "content_type", "size", "filename", "duration_seconds", "metadata", "video")
    return ReadyMedia(
        message_id=announcement.message_id,
        media_id=announcement.media_id,
        created_at=datetime.fromisoformat(data["created_at"]),
        ready_at=datetime.fromisoformat(data["ready_at"]),
        **{name: data[name] for name in names},
    )
