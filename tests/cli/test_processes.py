"""The processes of a server: one whose output is not read, and several whose parent is killed."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.processes import BROKER, done, environment, running
from tests.support.waiting import answers, until

SECRET = "an operator's secret of more than 32 bytes"
REQUESTS = 1600
"""Enough for some 350 KB of lines; a pipe holds 64 KB, and the process 1,000 writes."""
SERVES = r"running on (http://127\.0\.0\.1:\d+)"


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a broker whose S3 is never asked, with its database."""
    variables = {
        "SECRET_KEY": SECRET,
        "AWS_S3_BUCKET_NAME": "videos",
        "AWS_ACCESS_KEY_ID": "AKIA0000000000000000",
        "AWS_SECRET_ACCESS_KEY": "of another",
        "BROKER_S3_ENDPOINT_URL": "http://127.0.0.1:9",
    }
    assert done("migrate", cwd=tmp_path, **variables).returncode == 0
    return variables


@pytest.fixture
def unread(tmp_path: Path, variables: dict[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run a server whose standard output is a pipe that is not read; yield it and its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "broker", "serve", "--port", str(port)],
        cwd=tmp_path,
        env=environment(tmp_path, **variables),
        stdout=subprocess.PIPE,
    )
    try:
        yield server, f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()
        assert server.stdout is not None
        server.stdout.close()


def test_a_server_whose_output_is_not_read_goes_on_and_reports_dropped_lines(
    unread: tuple[subprocess.Popen[bytes], str],
) -> None:
    server, url = unread
    until(lambda: answers(url))
    with httpx.Client(base_url=url, timeout=5) as client:
        for _ in range(REQUESTS):
            assert client.get("/healthz").status_code == 200
    assert server.stdout is not None
    os.set_blocking(server.stdout.fileno(), True)
    server.send_signal(signal.SIGTERM)
    lines = [json.loads(line) for line in server.stdout.read().splitlines()]
    dropped = sum(line["count"] for line in lines if line["event"] == "log writes were dropped")
    assert 0 < dropped < REQUESTS / 2
    assert sum(line["event"] == "request" for line in lines) + dropped >= REQUESTS
    assert server.wait(20) in (0, -signal.SIGTERM)


def test_the_processes_of_a_killed_server_end_and_leave_its_port(
    tmp_path: Path, variables: dict[str, str], postgresql_url: str
) -> None:
    variables = variables | {"BROKER_DATABASE_URL": postgresql_url}
    assert done("migrate", cwd=tmp_path, **variables).returncode == 0
    with running("serve", "--workers", "2", "--port", "0", cwd=tmp_path, program=BROKER, **variables) as server:
        url = server.wait_for(SERVES)[1]
        until(lambda: answers(url))
        children = psutil.Process(server.process.pid).children(recursive=True)
        assert len(children) >= 2
        server.process.kill()
        until(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children))
        port = httpx.URL(url).port or 0
        with socket.create_server(("127.0.0.1", port)):
            pass


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_for_all_addresses_of_ipv6_answers_ipv4_too(
    tmp_path: Path, variables: dict[str, str], postgresql_url: str, workers: int
) -> None:
    variables = variables | {"BROKER_DATABASE_URL": postgresql_url}
    assert done("migrate", cwd=tmp_path, **variables).returncode == 0
    arguments = ("serve", "--host", "::", "--port", "0", "--workers", str(workers))
    with running(*arguments, cwd=tmp_path, program=BROKER, **variables) as server:
        port = server.wait_for(r"running on http://\[::\]:(\d+)")[1]
        until(lambda: answers(f"http://[::1]:{port}"))
        assert answers(f"http://127.0.0.1:{port}")
        assert server.end(signal.SIGTERM) in (0, -signal.SIGTERM)
