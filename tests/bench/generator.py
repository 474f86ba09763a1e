"""The load: h2load over HTTP/1.1, which writes the start, status and duration of each request.

Each figure here is made from that log, so that nothing but an answered request counts, and each other status is
seen. The requests that are under way when the time is over are neither.
"""

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PROGRAM = "h2load"
PATIENCE = 60.0
"""How many seconds beyond a slot's end the generator may take to stop."""
SLOWEST = 3600.0


@dataclass(frozen=True, slots=True)
class Request:
    """Say what is asked; the paths are taken in turns."""

    method: str
    paths: Sequence[str]
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Answers:
    """Hold what came back in `seconds`: how many with 2xx and without, and how long the former took, ascending."""

    seconds: float
    failures: int
    milliseconds: Sequence[float]

    @property
    def count(self) -> int:
        """Return how many answers were 2xx."""
        return len(self.milliseconds)

    @property
    def rate(self) -> float:
        """Return the answers per second."""
        return self.count / self.seconds

    def percentile(self, percent: float) -> float:
        """Return the milliseconds within which `percent` of the answers came; NaN without an answer."""
        if not self.milliseconds:
            return float("nan")
        return self.milliseconds[min(self.count - 1, int(self.count * percent / 100))]


def load(
    base: str,
    request: Request,
    *,
    connections: int,
    seconds: float = 0,
    count: int = 0,
    rate: float | None = None,
) -> Answers:
    """Ask for `seconds`, or `count` times; as fast as the answers come, or `rate` times a second over all connections.

    Raises RuntimeError where the generator itself fails.
    """
    connections = min(connections, count) if count else connections
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        log, paths, body = (Path(directory, name) for name in ("log", "paths", "body"))
        paths.write_text("".join(f"{base}{path}\n" for path in request.paths))
        command = [PROGRAM, "--h1", "-c", str(connections), "-i", str(paths), f"--log-file={log}"]
        command += ["-n", str(count)] if count else ["-D", f"{round(seconds * 1000)}ms"]
        if rate is not None:
            command += ["--rps", f"{rate / connections:.4f}"]
        if request.body is not None:
            body.write_bytes(request.body)
            command += ["-d", str(body)]
        for name, value in request.headers.items():
            command += ["-H", f"{name}: {value}"]
        patience = SLOWEST if count else seconds + PATIENCE
        done = subprocess.run(command, capture_output=True, text=True, timeout=patience, check=False)
        if done.returncode != 0 or not log.exists():
            raise RuntimeError(f"{PROGRAM} failed: {(done.stderr or done.stdout)[-500:]}")
        return _answers(log.read_text(), seconds, _refused(done.stdout))


def _answers(log: str, seconds: float, refused: int) -> Answers:
    lines = [line.split("\t") for line in log.splitlines()]
    took = sorted(int(duration) / 1000 for _, status, duration in lines if status.startswith("2") and len(status) == 3)
    if not seconds and lines:
        began = min(int(start) for start, _, _ in lines)
        seconds = (max(int(start) + int(duration) for start, _, duration in lines) - began) / 1e6
    return Answers(seconds, failures=max(len(lines) - len(took), refused), milliseconds=took)


def _refused(summary: str) -> int:
    """Return how many requests ended without an answer, which the log may leave out."""
    for line in summary.splitlines():
        if line.startswith("requests:"):
            words = line.replace(",", "").split()
            return sum(int(words[words.index(name) - 1]) for name in ("failed", "errored", "timeout"))
    sys.exit(f"{PROGRAM} says nothing of its requests")
