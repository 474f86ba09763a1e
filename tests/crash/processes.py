"""Brokers in processes of their own, each forked from one that has imported everything."""

import signal
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from typing import Any

import httpx

from tests.support import dying
from tests.support.forking import FORKING

START_SECONDS = 100


@dataclass(slots=True)
class Broker:
    """One serving process and its address."""

    process: ForkServerProcess
    origin: str

    @property
    def url(self) -> str:
        """Return the URL of the media routes."""
        return f"{self.origin}/api/v1/s3-media"

    def kill(self) -> None:
        """Kill it, as a crash does."""
        self.process.kill()
        self.join()

    def end(self) -> None:
        """Ask it to end, and wait until it has."""
        self.process.terminate()
        self.join()

    def join(self) -> None:
        """Wait until it has ended."""
        self.process.join(START_SECONDS)
        assert self.process.exitcode is not None, "the process does not end"

    @property
    def was_killed(self) -> bool:
        """Return whether SIGKILL ended it."""
        return self.process.exitcode == -signal.SIGKILL


def start_broker(overrides: dict[str, Any]) -> Broker:
    """Start a broker and return once it answers. `overrides` are settings by field name."""
    listening, told = FORKING.Pipe(duplex=False)
    process = FORKING.Process(target=dying.serve, args=(overrides, told), daemon=True)
    process.start()
    told.close()
    with listening:
        assert listening.poll(START_SECONDS), "the process does not listen"
        broker = Broker(process, f"http://127.0.0.1:{listening.recv()}")
    httpx.get(f"{broker.origin}/healthz", timeout=START_SECONDS).raise_for_status()
    return broker


def start_worker(overrides: dict[str, Any]) -> ForkServerProcess:
    """Start a process that only sweeps."""
    process = FORKING.Process(target=dying.work, args=(overrides,), daemon=True)
    process.start()
    return process
