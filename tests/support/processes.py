"""Run `broker` as its users do: as a process, in a directory of its own, with an environment of its own."""

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
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLIP = ROOT / "tests" / "data" / "clip.mp4"
START_SECONDS = 30


@dataclass(slots=True)
class Running:
    """A `broker` that runs, and what it has said so far on both its outputs."""

    process: subprocess.Popen[str]
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
        return self.process.wait(20)

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
def running(
    *arguments: str, cwd: Path, program: Sequence[str] = (sys.executable, "-m", "broker"), **variables: str
) -> Iterator[Running]:
    """Start `broker` (or another `program`) with these arguments; kill it on exit if it still runs."""
    process = subprocess.Popen(
        [*program, *arguments],
        cwd=cwd,
        env=environment(cwd, **variables),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
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


def done(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `broker` with these arguments to its end."""
    return subprocess.run(
        [sys.executable, "-m", "broker", *arguments],
        cwd=cwd,
        env=environment(cwd, **variables),
        text=True,
        capture_output=True,
        timeout=100,
        check=False,
    )


def read_variables(text: str) -> dict[str, str]:
    """Return the `NAME=value` lines of a text."""
    return dict(re.findall(r"^(?:export )?([A-Z0-9_]+)=(.*)$", text, re.MULTILINE))
