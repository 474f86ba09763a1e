"""The job of events in the background, and a bucket whose copies take long."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from broker.aws.bucket import Bucket
from broker.aws.queue import Queue
from broker.domain.media import Arrived
from broker.worker.events import Events
from tests.support.world import World
from tests.worker.conftest import VISIBILITY_SECONDS


@asynccontextmanager
async def hearing(world: World, queue: Queue) -> AsyncIterator[Events]:
    """Hear events in the background."""
    events = Events(queue, world.verbs, bucket_name=world.bucket.config.name)
    running = asyncio.create_task(events.run())
    yield events
    await events.stop()
    await running


class Slow(Bucket):
    """Take longer for a copy than a message is hidden."""

    async def promote(self, source: str, target: str, judged: Arrived) -> bool:
        await asyncio.sleep(VISIBILITY_SECONDS * 2.5)
        return await super().promote(source, target, judged)
