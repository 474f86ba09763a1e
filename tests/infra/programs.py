"""Required programs: a test that lacks one is skipped by its name, and fails in CI."""

import os
import shutil
import sys
from pathlib import Path

import pytest

PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
"""The search path for programs, with this Python's folder first."""


def require(*programs: str, root: bool = False) -> None:
    """Skip the test, or fail it in CI, unless each program is installed and, with `root`, this user is root."""
    missing = [program for program in programs if shutil.which(program, path=PATH) is None]
    if root and os.geteuid() != 0:
        missing.append("root's rights")
    if missing:
        do_without(*missing)


def do_without(*missing: str) -> None:
    """Skip the test, or fail it in CI, and name the missing programs."""
    absent = f"needs {', '.join(missing)}"
    if "CI" in os.environ:
        pytest.fail(absent)
    pytest.skip(absent)
