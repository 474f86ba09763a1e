"""A worker that reports each of its steps, and dies before a chosen one.

It runs in a process of its own. What it does when there is nothing to do is no step: a receive counts once it brought
messages, a claim once it brought something to tell.
"""

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any

from broker import wiring
from broker.aws.queue import Message, Queue, QueueConfig
from broker.domain.announcement import Announcement
from broker.domain.media import Media
from broker.settings import load_settings
from broker.store import Outbox, Store
from broker.worker import sender as sending
from broker.worker.sender import Answer, Sender
from tests.support.dying import COURSE, CountedBucket, CountedStore, Course, reach
from tests.support.forking import FORKING


@dataclass(slots=True)
class ToldCourse(Course):
    """Tell of each step that is taken."""

    told: Connection | None = None

    def reach(self, step: str) -> None:
        Course.reach(self, step)
        if self.told is not None:
            self.told.send(step)


class CountedQueue(Queue):
    """A queue whose every call is a step, and which hides messages for a moment only."""

    def __init__(self, config: QueueConfig) -> None:
        super().__init__(replace(config, visibility_seconds=2, wait_seconds=1))

    async def receive(self, limit: int) -> list[Message]:
        messages = await super().receive(limit)
        if messages:
            reach("received")
        return messages

    async def delete(self, message: Message) -> None:
        reach("delete message")
        await super().delete(message)


class CountedOutbox(Outbox):
    """An outbox whose claims and notes are steps."""

    async def claim(self, *arguments: Any, **options: Any) -> list[Announcement]:
        claimed = await super().claim(*arguments, **options)
        if claimed:
            reach("claimed webhook")
        return claimed

    async def delivered(self, announcement: Announcement) -> None:
        reach("note delivery")
        await super().delivered(announcement)


class CountedWorkerStore(CountedStore):
    """A store whose every operation is a step, but the sweep's look for what is due."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.outbox = CountedOutbox(self._writes, self._reads)

    async def claim_due(self, now: datetime, **options: Any) -> list[Media]:
        return await Store.claim_due(self, now, **options)


class CountedSender(Sender):
    """A sender whose every attempt is a step."""

    async def send(self, announcement: Announcement, now: datetime) -> Answer:
        reach("send webhook")
        return await super().send(announcement, now)


def work(overrides: dict[str, Any], die_before: int, ahead: timedelta, told: Connection) -> None:
    """Do what `broker worker` does until it is ended; its clock is `ahead` of the machine's."""
    vars(wiring)["Store"] = CountedWorkerStore
    vars(wiring)["Bucket"] = CountedBucket
    vars(wiring)["Queue"] = CountedQueue
    sending.Sender = CountedSender  # type: ignore[misc]
    COURSE.set(ToldCourse(die_before, 0, told=told))

    async def run() -> None:
        settings = load_settings(None, **overrides)
        async with wiring.running(settings, clock=lambda: datetime.now(UTC) + ahead) as (_, jobs):
            await jobs.run()

    asyncio.run(run())


@dataclass(slots=True)
class Worker:
    """One process that works, and where it tells of its steps."""

    process: ForkServerProcess
    telling: Connection

    def steps(self) -> list[str]:
        """Return the steps that it told of since the last look."""
        steps = []
        try:
            while self.telling.poll():
                steps.append(self.telling.recv())
        except EOFError:
            pass
        return steps

    def end(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.join()


def start_worker(overrides: dict[str, Any], *, die_before: int = 0, ahead: timedelta = timedelta()) -> Worker:
    """Start a worker; `overrides` are settings by the names of their fields."""
    telling, told = FORKING.Pipe(duplex=False)
    process = FORKING.Process(target=work, args=(overrides, die_before, ahead, told), daemon=True)
    process.start()
    told.close()
    return Worker(process, telling)
