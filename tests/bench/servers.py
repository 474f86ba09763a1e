"""A server that is measured: start it on its cores, look at what it takes, stop it."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from tests.bench.generator import Request

START_SECONDS = 60.0
STOP_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Contender:
    """Describe one server: how it is started, what is asked of it in each row, and what it does for that.

    `{port}` in the command and the environment stands for the port. `requests` is by row: issue, playback.
    """

    name: str
    does: str
    leaves_out: str
    command: Sequence[str]
    environment: Mapping[str, str]
    requests: Mapping[str, Request]
    is_node: bool = False


@dataclass(frozen=True, slots=True)
class Running:
    """A contender that answers, and how many seconds passed from its start to its first 2xx."""

    contender: Contender
    process: psutil.Process
    base: str
    started_in: float

    def cpu_seconds(self) -> float:
        """Return the processor time of the process and of those it started."""
        return sum(times.user + times.system for times in (one.cpu_times() for one in self._tree()))

    def rss_bytes(self) -> int:
        """Return the resident memory of the process and of those it started."""
        return sum(one.memory_info().rss for one in self._tree())

    def uses(self, library: str) -> bool:
        """Tell whether a process of the tree has loaded a shared library of this name."""
        return any(f"/{library}/" in Path(f"/proc/{one.pid}/maps").read_text() for one in self._tree())

    def _tree(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


@contextmanager
def serving(contender: Contender, cores: frozenset[int], directory: Path) -> Iterator[Running]:
    """Run a contender on these cores, with its output in a file of `directory`, until the block ends."""
    port = str(_free_port())
    base = f"http://127.0.0.1:{port}"
    fill = {name: value.replace("{port}", port) for name, value in contender.environment.items()}
    output = (directory / f"{contender.name.replace(' ', '-').replace(',', '')}.log").open("ab")
    began = time.monotonic()
    with closing(output):
        process = subprocess.Popen(
            [word.replace("{port}", port) for word in contender.command],
            cwd=directory,
            env={"PATH": os.environ["PATH"], "HOME": str(directory)} | fill,
            stdout=output,
            stderr=output,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
            start_new_session=True,
        )
    try:
        _wait_for(process, base, next(iter(contender.requests.values())), Path(output.name))
        yield Running(contender, psutil.Process(process.pid), base, time.monotonic() - began)
    finally:
        _stop(process)


def ask(base: str, request: Request) -> bytes:
    """Return the body of one answer. Raises httpx.HTTPError where it is none, or not 2xx."""
    answer = httpx.request(
        request.method, base + request.paths[0], content=request.body, headers=dict(request.headers), timeout=10
    )
    return answer.raise_for_status().content


def _wait_for(process: subprocess.Popen[bytes], base: str, request: Request, output: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            ask(base, request)
            return
        except httpx.HTTPError as error:
            refused = isinstance(error, httpx.HTTPStatusError)
            if refused or process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{error}; it said:\n{output.read_text()[-3000:]}") from None
            time.sleep(0.005)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the process and all of its session."""
    try:
        process.terminate()
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
