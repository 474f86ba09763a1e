"""Programs that tests start, and the skip of a test if one is not installed."""

import os
import shutil
import sys
from pathlib import Path

import pytest

PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
"""Where programs are searched: first beside this Python, where packages from PyPI install them."""


def require_programs(*names: str, purpose: str = "the test") -> None:
    """Skip the test unless all of these programs are installed. The reason names the purpose and the programs."""
    if missing := [name for name in names if shutil.which(name, path=PATH) is None]:
        pytest.skip(f"{purpose} is left out because these programs are not installed: {', '.join(missing)}")


def program(name: str) -> str:
    """Return the path of a program, or skip the test by the program's name."""
    require_programs(name)
    return str(shutil.which(name, path=PATH))
