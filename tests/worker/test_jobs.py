"""Jobs beside a server: a failure is logged at once, and not when the server ends."""

import asyncio

import pytest
from structlog.testing import capture_logs

from broker.worker.jobs import Jobs


class Waits:
    """A job that goes on until it is stopped."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()

    async def run(self) -> None:
        await self.stopping.wait()

    async def stop(self) -> None:
        self.stopping.set()


class Fails(Waits):
    """A job that fails at once."""

    async def run(self) -> None:
        raise ZeroDivisionError


async def test_a_failed_job_is_logged_at_once() -> None:
    told: list[tuple[str, str, type[Exception]]] = []

    async def serve() -> None:
        async with Jobs([Waits(), Fails()]).beside() as working:
            await asyncio.wait({working})
            await asyncio.sleep(0)
            told.extend((line["event"], line["log_level"], type(line["exc_info"])) for line in logs)

    with capture_logs() as logs, pytest.raises(ExceptionGroup) as raised:
        await serve()
    assert told == [("jobs ended", "critical", ExceptionGroup)]
    assert raised.group_contains(ZeroDivisionError)


async def test_stopped_jobs_end_silently() -> None:
    with capture_logs() as logs:
        async with Jobs([Waits(), Waits()]).beside():
            pass
    assert logs == []
