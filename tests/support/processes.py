"""Run `broker` as its users do: as a process, in a directory of its own, with an environment of its own.

It is forked from a process that has imported everything already, unless a test names the program, such as BROKER.
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TextIO

from tests.support.forking import FORKING, fork

ROOT = Path(__file__).resolve().parents[2]
CLIP = ROOT / "tests" / "data" / "clip.mp4"
START_SECONDS = 100
BROKER = (sys.executable, "-m", "broker")
"""The program for tests of what a Python does at its start: its imports, its variables, its child processes."""


@dataclass(frozen=True, slots=True)
class Forked:
    """A forked process, with what tests use of `subprocess.Popen`."""

    process: ForkServerProcess
    stdout: TextIO

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self, seconds: float | None = None) -> int:
        self.process.join(seconds)
        if self.process.exitcode is None:
            raise subprocess.TimeoutExpired("broker", seconds or 0)
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@dataclass(slots=True)
class Running:
    """A `broker` that runs, and what it has said so far on both its outputs."""

    process: subprocess.Popen[str] | Forked
    lines: list[str] = field(default_factory=list)
    _said: threading.Condition = field(default_factory=threading.Condition)

    @property
    def said(self) -> str:
        """Return everything it has said so far."""
        return "\n".join(self.lines)

    def wait_for(self, pattern: str, *, seconds: float = START_SECONDS) -> re.Match[str]:
        """Return the first match of `pattern` in what it says; fail where it ends or stays silent before."""
        deadline = time.monotonic() + seconds
        with self._said:
            while (found := re.search(pattern, self.said)) is None:
                left = deadline - time.monotonic()
                assert left > 0, f"{pattern!r} is not in what was said in {seconds:g} s:\n{self.said}"
                ended = self.process.poll() is not None
                self._said.wait(min(left, 0.2))
                assert not ended or re.search(pattern, self.said), f"it ended, saying:\n{self.said}"
        return found

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(100)

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._said:
                self.lines.append(line.rstrip("\n"))
                self._said.notify_all()


def environment(home: Path, **variables: str) -> dict[str, str]:
    """Return an environment with nothing in it but what a shell needs, and `variables`."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(ROOT)} | variables


@contextmanager
def running(*arguments: str, cwd: Path, program: Sequence[str] = (), **variables: str) -> Iterator[Running]:
    """Start `broker` (or another `program`) with these arguments; kill it on exit if it still runs."""
    known = environment(cwd, **variables)
    process = _started([*program, *arguments], cwd, known) if program else _forked(arguments, cwd, known)
    started = Running(process)
    listener = threading.Thread(target=started._listen, daemon=True)
    listener.start()
    try:
        yield started
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # with the processes that it started
        process.wait()
        listener.join(10)


def _started(command: Sequence[str], cwd: Path, variables: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=variables,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _forked(arguments: Sequence[str], cwd: Path, variables: dict[str, str]) -> Forked:
    reader, writer = FORKING.Pipe(duplex=False)
    process = fork(arguments, cwd=cwd, variables=variables, outputs={1: writer, 2: writer})
    writer.close()
    with reader:
        return Forked(process, os.fdopen(os.dup(reader.fileno()), encoding="utf-8"))


def done(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `broker` with these arguments to its end."""
    with TemporaryDirectory(prefix="broker-output-") as folder:
        outputs = [Path(folder, name) for name in ("stdout", "stderr")]
        process = fork(
            arguments, cwd=cwd, variables=environment(cwd, **variables), outputs=dict(enumerate(outputs, start=1))
        )
        process.join(100)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(["broker", *arguments], 100)
        texts = [output.read_text("utf-8") for output in outputs]
    return subprocess.CompletedProcess(["broker", *arguments], process.exitcode, *texts)


def read_variables(text: str) -> dict[str, str]:
    """Return the `NAME=value` lines of a text."""
    return dict(re.findall(r"^(?:export )?([A-Z0-9_]+)=(.*)$", text, re.MULTILINE))
