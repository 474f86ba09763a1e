"""Programs from PyPI for the tests, each in a virtual environment of its own, installed once into a cache."""

import hashlib
import subprocess
import sys
from pathlib import Path

from tests.support.npm import CACHE, missing


def environment(*specs: str) -> Path:
    """Return the `bin` folder of an environment that has these packages, such as `openapi-python-client==0.29.1`."""
    folder = CACHE.parent / "pypi" / hashlib.sha256(" ".join((sys.version, *specs)).encode()).hexdigest()[:16]
    programs = folder / "bin"
    if (folder / "complete").exists():
        return programs
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    pip = [str(programs / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *specs]
    install = subprocess.run(pip, capture_output=True, text=True, check=False)
    if install.returncode != 0:
        missing(f"registry that gives {' '.join(specs)} ({install.stderr.strip()[-300:]})")
    (folder / "complete").touch()
    return programs
