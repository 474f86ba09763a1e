"""The number of cores that a container leaves to a process, read from files as Linux writes them."""

from pathlib import Path

import pytest

from broker.server.cores import usable_cores


@pytest.fixture(autouse=True)
def sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that the machine has sixteen cores."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)), raising=False)


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/", {"cpu.max": "max 100000"}, 16),
        ("0::/", {"cpu.max": "100000 100000"}, 1),
        ("0::/", {"cpu.max": "150000 100000"}, 2),
        ("0::/", {"cpu.max": "10000 100000"}, 1),
        ("0::/", {"cpu.max": "6400000 100000"}, 16),
        ("0::/", {}, 16),
        ("0::/system.slice/broker.service", {"system.slice/broker.service/cpu.max": "400000 100000"}, 4),
        ("0::/pod/broker", {"pod/cpu.max": "200000 100000", "pod/broker/cpu.max": "max 100000"}, 2),
        ("0::/a/path/of/the/host", {"cpu.max": "300000 100000"}, 3),
        ("4:memory:/x\n2:cpu,cpuacct:/x\n0::/", {"cpu/x/cpu.cfs_quota_us": "300000"}, 3),
        ("2:cpu,cpuacct:/a/path/of/the/host", {"cpu/cpu.cfs_quota_us": "200000"}, 2),
        ("2:cpu:/", {"cpu/cpu.cfs_quota_us": "-1"}, 16),
        ("2:cpuset:/", {"cpuset/cpu.cfs_quota_us": "100000"}, 16),
    ],
)
def test_a_limit_on_processor_time_counts_as_cores(tmp_path: Path, own: str, files: dict[str, str], cores: int) -> None:
    for name, text in files.items():
        file = tmp_path / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
        if file.name == "cpu.cfs_quota_us":
            file.with_name("cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "self").write_text(own + "\n")
    assert usable_cores(tmp_path / "cgroup", tmp_path / "self") == cores


def test_a_machine_without_control_groups_has_all_its_cores(tmp_path: Path) -> None:
    assert usable_cores(tmp_path / "none", tmp_path / "nothing") == 16
