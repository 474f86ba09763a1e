"""The runner of the background jobs: the sweep, S3 events and webhooks, each in a loop of its own."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import structlog

log = structlog.get_logger()


class Job(Protocol):
    """A loop that runs until it is stopped, and then finishes its current work."""

    async def run(self) -> None:
        """Work until `stop` is called."""

    async def stop(self) -> None:
        """Let `run` end."""


class Jobs:
    """Several jobs that run side by side. A failed one ends all, so that the process's supervisor notices."""

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
        """Run beside the body of a `with`, and yield the task; at the end, stop it and wait for it.

        A failure is logged at once, because the body would learn of it only at its end.
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
