"""A Redis for the tests, on a free port of the loopback interface, without persistence."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

STARTS = 5
"""How many free ports are tried: another process may take one before Redis does."""


def redis_program(name: str) -> str:
    """Return the path of a program of Redis; skip by name where it is missing, but not in CI."""
    program = shutil.which(name)
    if program is None:
        if "CI" in os.environ:
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed")
    return program


@contextmanager
def running_redis(
    folder: Path,
    port: int = 0,
    *,
    options: Sequence[str] = (),
    arguments: Sequence[str] = (),
    persistence: bool = True,
) -> Iterator[str]:
    """Run redis-server and yield its address.

    `port`: where it listens; 0: wherever there is room. `persistence`: whether it knows the options that turn it off.
    """
    program = redis_program("redis-server")
    volatile = ["--save", "", "--appendonly", "no"] if persistence else []
    for _ in range(1 if port else STARTS):
        with socket.create_server(("127.0.0.1", port)) as free:
            at = free.getsockname()[1]
        listening = ["--port", str(at), "--bind", "127.0.0.1", "--dir", str(folder)]
        server = subprocess.Popen([program, *arguments, *listening, *volatile, *options], stdout=subprocess.DEVNULL)
        try:
            if _answers(server, at):
                yield f"redis://127.0.0.1:{at}/0"
                return
        finally:
            server.terminate()
            server.wait(10)
    pytest.fail("Redis did not start")


def _answers(server: subprocess.Popen[bytes], port: int) -> bool:
    """Wait for the first answer; return False if the server ended, as it does where its port, or that of the cluster's
    bus 10,000 above it, is taken."""
    deadline = time.monotonic() + 100
    with redis.Redis(port=port) as client:
        while server.poll() is None:
            try:
                return client.ping() is True
            except redis.ConnectionError:
                assert time.monotonic() < deadline, "Redis did not start"
                time.sleep(0.05)
    return False
