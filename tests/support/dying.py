"""A broker that counts its steps on the database and on S3, and dies before a chosen one.

It runs in a process of its own, see `processes.py`. It is the whole application under a real server. The operations of
its store and its bucket are counted as steps, by name. Headers of a request, unknown to the broker itself, control it:

- `x-die-before: 3` kills the process with SIGKILL before the third step of that request. The answer is the last step,
  so that a death happens between any two neighboring steps.
- `x-overwrite: 1` overwrites the staging object, or the last part, just before its first copy in that request.
- `x-clock: 90` moves the broker's clock 90 seconds ahead of the machine's, for that request and all that follow.

`POST /sweep` sweeps until nothing is due. Each answer names the steps of its request in `x-steps`.
"""

import asyncio
import os
import signal
import socket
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broker import wiring
from broker.app import create_app
from broker.aws.bucket import Bucket
from broker.aws.client import Answer
from broker.domain.access.quota import Quota
from broker.domain.media import Event, Media
from broker.lifecycle.settlement import Settlement
from broker.server.serve import work_until_stopped
from broker.settings import load_settings
from broker.store import Store
from broker.worker.sweep import Sweep
from tests.support import overwriter

VIDEO = bytes(range(256)) * 4
OTHER = VIDEO[::-1]
PART_BYTES = 5 * 1024**2
IN_PARTS = VIDEO * (PART_BYTES // len(VIDEO)) + VIDEO
"""A file of two parts; the last one has the size of VIDEO."""


@dataclass(slots=True)
class Course:
    """The steps that one request has taken, and the one before which it dies."""

    die_before: int
    overwrites: int
    steps: list[str] = field(default_factory=list)

    def reach(self, step: str) -> None:
        """Count the next step, or die before it."""
        if len(self.steps) + 1 == self.die_before:
            self.die()
        self.steps.append(step)

    def die(self) -> None:
        """End the process, as a crash does."""
        os.kill(os.getpid(), signal.SIGKILL)


UNCOUNTED = Course(0, 0)
COURSE: ContextVar[Course] = ContextVar("course", default=UNCOUNTED)


def reach(step: str) -> None:
    """Count a step of the current request, if there is one."""
    if (course := COURSE.get()) is not UNCOUNTED:
        course.reach(step)


class CountedStore(Store):
    """A store whose every operation is a step."""

    async def add(self, media: Media, quota: Quota) -> Media:
        reach("add")
        return await super().add(media, quota)

    async def get(self, media_id: Any, owner: str | None) -> Media:
        reach("get")
        return await super().get(media_id, owner)

    async def change(self, media: Media, event: Event, **changes: Any) -> Media | None:
        reach(f"change {event.name}")
        return await super().change(media, event, **changes)

    async def amend(self, media: Media, **changes: Any) -> Media | None:
        reach(f"amend {' '.join(sorted(changes))}")
        return await super().amend(media, **changes)

    async def claim_due(self, now: datetime, **options: Any) -> list[Media]:
        reach("claim")
        return await super().claim_due(now, **options)


class CountedBucket(Bucket):
    """A bucket whose every request to S3 is a step."""

    async def _call(self, operation: str, method: str, key: str = "", **options: Any) -> Answer:
        reach(operation)
        course = COURSE.get()
        source = options.get("headers", {}).get("x-amz-copy-source", "").removeprefix(f"{self.config.name}/")
        if course.overwrites and (operation == "copy_object" or source.endswith("/00002")):
            course.overwrites -= 1
            await asyncio.to_thread(overwriter.puts, self.config, source, OTHER)
        return await super()._call(operation, method, key, **options)


class KeptSweep(Sweep):
    """The sweep that the wiring built, made available to the process."""

    made: "KeptSweep"

    def __init__(self, store: Store, settlement: Settlement, **options: Any) -> None:
        super().__init__(store, settlement, **options)
        self.settlement = settlement
        KeptSweep.made = self


class Clock:
    """The machine's time plus an offset."""

    def __init__(self) -> None:
        self.moved = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.moved


class Steered:
    """Read the control headers of a request, and serve the sweep."""

    def __init__(self, app: ASGIApp, clock: Clock) -> None:
        self._app = app
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        controls = {name.decode(): value.decode() for name, value in scope["headers"]}
        if "x-clock" in controls:
            self._clock.moved = timedelta(seconds=float(controls["x-clock"]))
        course = Course(int(controls.get("x-die-before", 0)), int(controls.get("x-overwrite", 0)))

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                course.reach("answer")
                message["headers"] = [*message["headers"], (b"x-steps", ",".join(course.steps).encode())]
            await send(message)

        token = COURSE.set(course)
        try:
            if scope["path"] == "/sweep":
                while await KeptSweep.made.once():
                    pass
                await KeptSweep.made.settlement.close()
                await answer({"type": "http.response.start", "status": 204, "headers": []})
                await send({"type": "http.response.body"})
            else:
                await self._app(scope, receive, answer)
        finally:
            COURSE.reset(token)


def serve(overrides: dict[str, Any], told: Connection) -> None:
    """Serve on a free port, which is sent to `told`, until SIGTERM or death."""
    vars(wiring)["Store"] = CountedStore
    vars(wiring)["Bucket"] = CountedBucket
    vars(wiring)["Sweep"] = KeptSweep
    clock = Clock()
    app = create_app(load_settings(None, **overrides), clock=clock)
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        told.send(listening.getsockname()[1])
        config = uvicorn.Config(
            Steered(app, clock), log_level="error", access_log=False, ws="none", timeout_keep_alive=75
        )
        uvicorn.Server(config).run(sockets=[listening])


def work(overrides: dict[str, Any]) -> None:
    """Sweep until SIGTERM, as `broker worker` does."""
    asyncio.run(work_until_stopped(load_settings(None, **overrides)))
