"""The wheel: it holds every file that the broker needs, and runs where it is installed.

Its dependencies are those of the tests. That the declared ones suffice is held by test_clone, which installs them.
"""

import json
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from zipfile import ZipFile

import httpx
import pytest

from tests.support.processes import ROOT, environment, read_variables, running


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build wheel and sdist as `make dist` does, and return their folder."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", folder], cwd=ROOT, check=True, capture_output=True
    )
    return folder


def test_make_dist_builds_by_the_command_that_these_tests_use() -> None:
    assert "-m hatchling build -d dist" in (ROOT / "Makefile").read_text("utf-8")


def test_the_wheel_holds_every_tracked_file_of_the_package(distributions: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    tracked = subprocess.run(["git", "ls-files", "broker"], cwd=ROOT, check=True, capture_output=True, text=True)
    assert "broker/py.typed" in tracked.stdout.splitlines()
    assert set(tracked.stdout.splitlines()) - set(ZipFile(wheel).namelist()) == set()


def test_there_is_one_sdist_beside_the_wheel(distributions: Path) -> None:
    assert len(list(distributions.glob("*.tar.gz"))) == 1


def test_the_browser_package_has_the_projects_license() -> None:
    assert (ROOT / "broker" / "web" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_the_browser_package_has_the_projects_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    package = json.loads((ROOT / "broker" / "web" / "package.json").read_text("utf-8"))
    assert package["version"] == project["version"]


@pytest.mark.timeout(600)
def test_an_installed_wheel_says_its_version_and_runs_broker_dev(distributions: Path, tmp_path: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (own,) = venv.glob("lib/python*/site-packages")
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    install = [sys.executable, "-m", "pip", "--python", str(venv), "install", "--quiet", "--no-deps", str(wheel)]
    subprocess.run(install, capture_output=True, check=True)
    where = [str(venv / "bin" / "python"), "-c", "import broker; print(broker.__file__)"]
    imported = subprocess.run(where, cwd=tmp_path, env={}, capture_output=True, text=True, check=True).stdout
    assert Path(imported).is_relative_to(own)

    home = tmp_path / "home"
    home.mkdir()
    broker = venv / "bin" / "broker"
    version = subprocess.run(
        [broker, "--version"], cwd=home, env={"PATH": ""}, capture_output=True, text=True, check=True
    )
    assert version.stdout == f"broker {wheel.name.split('-')[1]}\n"
    with running("dev", "--port", "0", cwd=home, program=(str(broker),), PYTHONPATH="") as dev:
        dev.wait_for("Try in another terminal")
        variables = read_variables((home / "var" / "dev.env").read_text())
        upload = subprocess.run(
            [broker, "upload", ROOT / "tests" / "data" / "clip.mp4"],
            cwd=home,
            env=environment(home, **variables, PYTHONPATH=""),
            capture_output=True,
            text=True,
            check=False,
        )
        assert upload.returncode == 0, upload.stderr
        assert httpx.get(variables["BROKER_URL"].partition("/api/")[0] + "/").status_code == 200
        assert dev.end() == 0
