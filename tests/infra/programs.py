"""Tests that need a program are skipped by its name where it is missing, and fail in CI."""

import os
import shutil
import sys
from pathlib import Path

import pytest

PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
"""Where programs are: beside this Python first."""


def require(*programs: str, root: bool = False) -> None:
    """Skip the test, or fail it in CI, unless each program is here (and this is root, where asked for)."""
    missing = [program for program in programs if shutil.which(program, path=PATH) is None]
    if root and os.geteuid() != 0:
        missing.append("root's rights")
    if missing:
        do_without(*missing)


def do_without(*missing: str) -> None:
    """Skip the test, or fail it in CI, for what is missing."""
    absent = f"needs {', '.join(missing)}"
    if "CI" in os.environ:
        pytest.fail(absent)
    pytest.skip(absent)
