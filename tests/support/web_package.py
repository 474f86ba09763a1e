"""The npm tarball of the browser modules, as `make dist` packs it, installed into an empty project."""

import json
import subprocess
from pathlib import Path

from tests.support.npm import program
from tests.support.processes import ROOT

WEB = ROOT / "broker" / "web"


def packed(folder: Path) -> Path:
    """Pack the browser modules into `folder`, and return the tarball."""
    npm = subprocess.run(
        [program("npm"), "pack", "--json", "--pack-destination", folder, WEB],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    (listed,) = json.loads(npm.stdout)
    return folder / str(listed["filename"])


def project(folder: Path, tarball: Path, *, beside: Path | None = None) -> Path:
    """Make an empty project in `folder` with the tarball as its only dependency, and return it.

    The packages of `beside`, a folder with `node_modules`, can be imported too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    install = [program("npm"), "install", "--no-package-lock", "--no-audit", "--no-fund", "--offline", str(tarball)]
    subprocess.run(install, cwd=folder, check=True, capture_output=True)
    if beside is not None:
        for package in (beside / "node_modules").iterdir():
            link = folder / "node_modules" / package.name
            if not link.exists():
                link.symlink_to(package)
    return folder
