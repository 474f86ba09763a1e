"""Daemons of an S3 server under test: child processes on 127.0.0.1 that end with this process, and their logs."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from tests.support.programs import PATH

STARTS_IN_SECONDS = 100
"""Limit for each step of a start. All steps together take two to ten seconds."""


class StartError(RuntimeError):
    """A daemon ended, or did not answer in time; the message holds the end of its log."""


class DaemonS3(ABC):
    """An S3 server of daemons that share one temporary directory, `home`, and run while the context is open.

    Within the context `endpoint_url` answers path-style S3 requests that are signed with `access_key` and
    `secret_key` for `region`. Their user may create buckets; the server starts without any.
    """

    region = "us-east-1"
    endpoint_url: str

    def __init__(self, prefix: str) -> None:
        self.access_key = secrets.token_hex(10).upper()
        self.secret_key = secrets.token_hex(20)
        self.home = Path(tempfile.mkdtemp(prefix=prefix))
        self.environment: Mapping[str, str] = {**os.environ, "PATH": PATH, "HOME": str(self.home)}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @abstractmethod
    def start(self) -> None:
        """Start the daemons, and return once the server answers. Raises StartError."""

    def run(self, *command: str) -> None:
        """Run a program to its end. Raises StartError if it fails or exceeds STARTS_IN_SECONDS."""
        try:
            subprocess.run(
                command,
                env=self.environment,
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=STARTS_IN_SECONDS,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            output = (error.stdout or b"").decode(errors="replace")
            raise StartError(f"{error}\n{output}\n{self._log_ends()}") from error

    def spawn(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a daemon that the kernel kills when this process ends, even by a signal."""
        with (self.home / f"{program}.output.log").open("wb") as log:
            process = subprocess.Popen(
                ("setpriv", "--pdeathsig", "KILL", program, *arguments),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._processes[program] = process
        return process

    def wait_for_answer(
        self, process: subprocess.Popen[bytes], url: str, is_ready: Callable[[httpx.Response], bool]
    ) -> None:
        """Poll `url` until an answer is ready. Raises StartError if the process ends or STARTS_IN_SECONDS pass."""
        deadline = time.monotonic() + STARTS_IN_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if is_ready(httpx.get(url, timeout=5)):
                    return
            time.sleep(0.05)
        raise StartError(self._log_ends())

    def stop(self) -> None:
        """Kill the daemons, because nothing of theirs is kept, and remove all files in their directory."""
        for process in reversed(self._processes.values()):
            process.kill()
        for process in self._processes.values():
            process.wait()
        self._processes.clear()
        shutil.rmtree(self.home, ignore_errors=True)

    def _log_ends(self) -> str:
        ended = [
            f"{program} ended with status {process.poll()}"
            for program, process in self._processes.items()
            if process.poll() is not None
        ]
        logs = [
            f"{log.name}:\n" + "\n".join(log.read_text(errors="replace").splitlines()[-20:])
            for log in sorted(self.home.glob("*.log"))
        ]
        return "\n".join(ended + logs)


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 on which nothing listens now."""
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in listeners]


def run_until_input_closes(server: DaemonS3) -> None:
    """Start a server, print its endpoint and key as `name=value` lines, and stop it when standard input closes."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with server as running:
        for name in ("endpoint_url", "region", "access_key", "secret_key"):
            sys.stdout.write(f"{name}={getattr(running, name)}\n")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            sys.stdin.read()
