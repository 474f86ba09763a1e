"""What goes on beside the requests: the sweep, S3's events, the webhooks, each in a loop of its own."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import structlog

log = structlog.get_logger()


class Job(Protocol):
    """Go on until it is stopped, and finish then what is under way."""

    async def run(self) -> None:
        """Work until `stop` is called."""

    async def stop(self) -> None:
        """Let `run` end."""


class Jobs:
    """Run several jobs side by side; one that fails ends all, so that whoever supervises the process sees it."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = tuple(jobs)

    async def run(self) -> None:
        """Work until `stop` is called, or until a job fails; then its error is raised."""
        async with asyncio.TaskGroup() as together:
            for job in self._jobs:
                together.create_task(job.run())

    async def stop(self) -> None:
        """Let every job end."""
        await asyncio.gather(*(job.stop() for job in self._jobs))

    @asynccontextmanager
    async def beside(self) -> AsyncIterator["asyncio.Task[None]"]:
        """Run beside the body of a `with`, and yield the task; at the end stop and wait for it.

        Whoever serves in the body would hear of a failure only then, so that it is logged when it happens.
        """
        task = asyncio.create_task(self.run())
        task.add_done_callback(_log_failure)
        try:
            yield task
        finally:
            await self.stop()
            await task


def _log_failure(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("jobs ended", exc_info=error)
