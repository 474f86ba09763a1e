"""`.ci/run` on machines with and without a second Python, with every command that it runs recorded."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parents[2] / ".ci" / "run"
TESTED = "{}.{}".format(*sys.version_info)
OTHER = "3.12" if TESTED != "3.12" else "3.13"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Make a checkout beside a PATH that has `make`, the few programs of the script, and no Python."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "dirname", "sort", "tail"):
        (programs / name).symlink_to(shutil.which(name) or name)
    (tmp_path / ".ci").mkdir()
    shutil.copy(RUN, tmp_path / ".ci" / "run")
    _write_program(tmp_path / ".ci" / "install", "exit 0")
    _write_program(programs / "make", f'echo "$*" >>{tmp_path}/made')
    _write_program(tmp_path / ".venv" / "bin" / "python", f"echo {TESTED}")
    return tmp_path


def _write_program(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def _run(machine: Path) -> tuple[int, str, list[str]]:
    """Return the script's exit status, its errors, and the arguments of each `make`."""
    environment = {"PATH": str(machine / "bin"), "HOME": str(machine)}
    command = [str(machine / "bin" / "bash"), ".ci/run"]
    ended = subprocess.run(
        command, cwd=machine, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    return ended.returncode, ended.stderr, (machine / "made").read_text().splitlines()


def test_a_machine_with_one_python_fails_before_the_tests(machine: Path) -> None:
    status, errors, made = _run(machine)
    assert (status, made) == (1, ["check"])
    assert errors.startswith(f"no Python but {TESTED} is found")


def test_a_python_of_pyenv_is_tested_after_the_default_one(machine: Path) -> None:
    python = machine / ".pyenv" / "versions" / f"{OTHER}.1" / "bin" / "python"
    _write_program(python, "exit 0")
    status, _, made = _run(machine)
    assert (status, made[:3]) == (0, ["check", "scan", "test"])
    assert [line.split()[:3] for line in made[3:]] == [["test", f"PYTHON={python}", f"VENV=.venv-{OTHER}"]]
