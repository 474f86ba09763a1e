"""The order of the tests over several processes: the files that take longest begin first."""

import psutil
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling, Scheduling

LONGEST_FIRST = (
    "infra/test_image.py",
    "readme/test_clone.py",
    "crash/test_every_step_in_parts.py",
    "crash/test_every_step.py",
    "infra/test_terraform.py",
    "browser/test_resume.py",
    "browser/test_console.py",
    "worker/test_events.py",
    "crash/test_replicas.py",
    "cli/test_upload_in_parts.py",
    "worker/test_crash.py",
    "crash/test_random_deaths.py",
    "crash/test_any_order.py",
    "cli/test_processes.py",
    "metrics/test_processes.py",
    "s3/test_server.py",
    "worker/test_commands.py",
    "worker/test_probe.py",
    "worker/test_webhooks.py",
    "phones/test_kotlin.py",
)
"""Files that take long alone. Begun last, one of them would keep one core busy and the others idle."""
SERVERS = ("ceph", "seaweedfs")
"""Servers that are slow to start, and named by each test that asks for one."""


class ByFile(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """Give each process whole files, but all tests of a slow server to one process, so that it starts once."""

    def _split_scope(self, nodeid: str) -> str:
        named = [server for server in SERVERS if server in nodeid]
        return named[0] if named else super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling | None:
    """Give out the tests by file, if that is asked for."""
    return ByFile(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return one process more than the machine has cores: more than half of the time, a test waits for its servers."""
    return (psutil.cpu_count(logical=True) or 1) + 1


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the longest files first; xdist gives out the files in this order (--no-loadscope-reorder)."""
    ranks = {config.rootpath / "tests" / name: rank for rank, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))
