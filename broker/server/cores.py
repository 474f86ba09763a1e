"""The number of cores that this process may use."""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def usable_cores(cgroups: Path = CGROUPS, own_cgroup: Path = OWN_CGROUP) -> int:
    """Return the number of cores that this process may use, at most what its container's share of time fills.

    A container with a limit of one core sees all cores of its machine. Source: Linux's documentation of control groups,
    `cpu.max` (version 2), `cpu.cfs_quota_us` and `cpu.cfs_period_us` (version 1).
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([cores, *(max(1, math.ceil(share)) for share in _shares(cgroups, own_cgroup))])


def _shares(cgroups: Path, own_cgroup: Path) -> Iterator[float]:
    """Yield the limit, in cores, of each control group that this process is in and that has one."""
    for group in _groups(cgroups, own_cgroup):
        with suppress(OSError, ValueError):  # "max": no limit
            quota, period = (group / "cpu.max").read_text().split()
            yield int(quota) / int(period)
        with suppress(OSError, ValueError):
            quota_us = int((group / "cpu.cfs_quota_us").read_text())
            if quota_us > 0:
                yield quota_us / int((group / "cpu.cfs_period_us").read_text())


def _groups(cgroups: Path, own_cgroup: Path) -> Iterator[Path]:
    """Yield the control groups of this process and their parents. A container may see its own group as the root."""
    with suppress(OSError):
        for line in own_cgroup.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            root = cgroups / "cpu" if controllers else cgroups
            own = root / path.strip("/")
            yield from (group for group in (own, *own.parents) if group.is_relative_to(root))
