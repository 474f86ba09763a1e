"""The order of the tests over several processes: the files that take longest begin first."""

import psutil
import pytest

LONGEST_FIRST = (
    "crash/test_replicas.py",
    "worker/test_events.py",
    "crash/test_every_step.py",
    "infra/test_image.py",
    "infra/test_terraform.py",
    "crash/test_any_order.py",
    "worker/test_crash.py",
    "readme/test_distribution.py",
    "crash/test_random_deaths.py",
    "browser/test_console.py",
    "security/test_openapi.py",
    "worker/test_commands.py",
    "worker/test_probe.py",
    "worker/test_webhooks.py",
)
"""Files of half a minute or more on one core. Begun last, one of them would keep one core busy and the others idle."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return one process more than the machine has cores: more than half of the time, a test waits for its servers."""
    return (psutil.cpu_count(logical=True) or 1) + 1


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the longest files first; xdist gives out the files in this order (--no-loadscope-reorder)."""
    ranks = {config.rootpath / "tests" / name: rank for rank, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))
