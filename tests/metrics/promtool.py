"""Prometheus' own checker."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def promtool(*arguments: str | Path, said: bytes | None = None) -> None:
    """Run promtool, and fail with what it says; a machine without it skips, but never in CI."""
    if shutil.which("promtool") is None:
        absent = "promtool is not there (Debian's prometheus)"
        if "CI" in os.environ:
            pytest.fail(absent)
        pytest.skip(absent)
    ran = subprocess.run(["promtool", *arguments], input=said, capture_output=True, timeout=30)
    assert ran.returncode == 0, (ran.stdout + ran.stderr).decode()
