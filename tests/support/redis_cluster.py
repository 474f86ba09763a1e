"""A Redis Cluster of three nodes, and a Redis with a Sentinel, on free ports of the loopback interface."""

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import redis

from tests.support.redis_server import redis_program, running_redis

NODES = 3
START_SECONDS = 100


@contextmanager
def running_cluster(folder: Path, before: Sequence[int] = ()) -> Iterator[list[int]]:
    """Run a cluster without replicas and yield the ports of its nodes.

    `before`: the ports of a cluster that ran in this folder, to start its nodes again.
    """
    with ExitStack() as stack:
        ports = []
        for number in range(NODES):
            home = folder / f"node-{number}"
            home.mkdir(exist_ok=bool(before))
            port = before[number] if before else 0
            url = stack.enter_context(running_redis(home, port, options=("--cluster-enabled", "yes")))
            ports.append(int(url.rpartition(":")[2].partition("/")[0]))
        if not before:
            nodes = [f"127.0.0.1:{port}" for port in ports]
            subprocess.run(
                [redis_program("redis-cli"), "--cluster", "create", *nodes, "--cluster-yes"],
                check=True,
                capture_output=True,
            )
        deadline = time.monotonic() + START_SECONDS
        for port in ports:
            with redis.Redis(port=port) as client:
                while client.cluster("info")["cluster_state"] != "ok":
                    assert time.monotonic() < deadline, "the cluster did not start"
                    time.sleep(0.05)
        yield ports


@contextmanager
def running_sentinel(folder: Path, primary_port: int) -> Iterator[int]:
    """Run a Sentinel that knows a primary by the name `primary`, and yield its port."""
    configuration = folder / "sentinel.conf"
    configuration.write_text(f"sentinel monitor primary 127.0.0.1 {primary_port} 1\n")
    with running_redis(folder, arguments=(str(configuration), "--sentinel"), persistence=False) as url:
        yield int(url.rpartition(":")[2].partition("/")[0])
