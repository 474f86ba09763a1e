"""Webhooks to send: the secrets that sign them, an announcement, and a worker that delivers to receivers."""

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

from broker.domain.announcement import Announcement, announcements
from broker.domain.media import Media, State
from broker.egress.public_network import PublicNetwork
from broker.worker.sender import Sender
from broker.worker.webhooks import Webhooks
from tests.support.receiver import Receiver
from tests.support.samples import pending
from tests.support.world import World


def secret() -> str:
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


SECRET, NEXT_SECRET = secret(), secret()


def announced(target: str, **fields: object) -> Announcement:
    now = datetime.now(UTC)
    media: Media = pending(metadata={"title": "Größe 🎬"}, filename="a b.mp4")._replace(
        state=State.READY,
        size=1000,
        ready_at=now,
        version=2,
    )
    (announcement,) = announcements(media, (target,), now)
    return replace(announcement, **fields)  # type: ignore[arg-type]


@asynccontextmanager
async def sending(world: World, *receivers: Receiver, seconds: float = 30) -> AsyncIterator[Webhooks]:
    """Return what delivers to these receivers, at rest."""
    sender = Sender([SECRET], PublicNetwork(loopback=True), timeout_seconds=seconds)
    yield Webhooks(world.store.outbox, sender, tuple(one.url for one in receivers), clock=world.clock)
    await sender.close()


@asynccontextmanager
async def telling(world: World, *receivers: Receiver) -> AsyncIterator[Webhooks]:
    """Deliver to these receivers in the background."""
    async with sending(world, *receivers) as webhooks:
        running = asyncio.create_task(webhooks.run())
        yield webhooks
        await webhooks.stop()
        await running
