"""npm packages for the tests, installed once into a cache and never into the project."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "s3-media-broker" / "npm"


def program(*names: str) -> str:
    """Return the path of the first of these programs that is installed.

    If none is, skip the test by name, or fail it in CI.
    """
    for name in names:
        if path := shutil.which(name):
            return path
    return missing(" or ".join(names))


def missing(what: str) -> str:
    """Skip the test because `what` is missing, or fail it in CI."""
    reason = f"this machine has no {what}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def packages(*specs: str) -> Path:
    """Return a folder whose `node_modules` holds these packages, such as `axe-core@4.11.0`, and their dependencies."""
    npm = program("npm")
    folder = CACHE / hashlib.sha256(" ".join(specs).encode()).hexdigest()[:16]
    if (folder / "complete").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text('{"private": true}')
    command = [npm, "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", *specs]
    install = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if install.returncode != 0:
        missing(f"npm registry that gives {' '.join(specs)} ({install.stderr.strip()[-300:]})")
    (folder / "complete").touch()
    return folder
