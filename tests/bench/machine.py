"""The machine: what it is, how busy it is, and which core belongs to whom."""

import os
import platform
import resource
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Cores:
    """Say where the measured server runs, and where all else does: the load, the databases, this program."""

    server: frozenset[int]
    load: frozenset[int]


def divide_cores() -> Cores:
    """Give the server the first core and the load the last one, and move this process to the latter.

    What this process starts stays there with it, unless it says otherwise.
    """
    cores = sorted(os.sched_getaffinity(0))
    divided = Cores(server=frozenset(cores[:1]), load=frozenset(cores[-1:]))
    os.sched_setaffinity(0, divided.load)
    return divided


def allow_many_connections() -> None:
    """Raise the limit on open files to what this user may have, for this process and all that it starts."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def busy() -> float:
    """Return how many processes ran or waited in the last minute, on average."""
    return os.getloadavg()[0]


def describe() -> str:
    """Return the machine in one line."""
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{_processor()}, {psutil.cpu_count()} cores, {memory:.0f} GiB; "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
