import os
import subprocess
import sys
from pathlib import Path

import pytest


def run_without_ceph(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run four tests on Ceph RGW where none of Ceph's programs is on PATH."""
    folder.joinpath("bin").mkdir()
    inherited = {name: value for name, value in os.environ.items() if name != "CI"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "range_requests", "tests/acceptance"],
        env=inherited | {"BROKER_TEST_S3": "ceph", "PATH": str(folder / "bin")} | environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_missing_server_takes_one_line_of_the_summary(tmp_path: Path) -> None:
    finished = run_without_ceph(tmp_path)
    assert finished.returncode == 0, finished.stdout
    [line] = [line for line in finished.stdout.splitlines() if line.startswith("SKIPPED")]
    assert line.startswith(
        "SKIPPED [4] tests/acceptance: Ceph RGW is left out because these programs are not installed"
    )
    assert "radosgw" in line


def test_a_missing_server_fails_in_ci(tmp_path: Path) -> None:
    finished = run_without_ceph(tmp_path, CI="true")
    assert finished.returncode == pytest.ExitCode.TESTS_FAILED
    assert "4 errors" in finished.stdout
    assert "CI allows no skipped test: Ceph RGW" in finished.stdout
