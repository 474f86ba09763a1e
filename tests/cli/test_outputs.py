"""Commands whose output, directory or file names are odd: they end in words, without a traceback."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import CLIP, done, environment
from tests.support.receiver import receiving

VARIABLES = {"SECRET_KEY": "a secret of the tests of the command line"}


@pytest.mark.parametrize(
    "command", ["dev --port 0", "dev --s3-only --port 0", "token", "--help", "--version", "doctor --help"]
)
def test_a_reader_that_leaves_causes_no_traceback(command: str, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with subprocess.Popen(
        [sys.executable, "-m", "broker", *command.split()],
        cwd=tmp_path,
        env=environment(tmp_path, **VARIABLES),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(writer)
        errors = process.communicate(timeout=60)[1]
    assert "Traceback" not in errors
    assert "BrokenPipeError" not in errors
    assert process.returncode in {0, 1}


@pytest.mark.parametrize("command", ["dev --port 0", "dev --s3-only --port 0", "serve --embedded-s3 --port 0"])
@pytest.mark.parametrize("place", ["/proc/x", "a-file", "a-file/below"])
def test_a_data_directory_that_cannot_be_used_is_named(command: str, place: str, tmp_path: Path) -> None:
    (tmp_path / "a-file").touch()
    variables = VARIABLES | {"USE_CLOUD_STORAGE": "false", "BROKER_DATABASE_URL": f"sqlite:///{tmp_path}/broker.db"}
    assert done("migrate", cwd=tmp_path, **variables).returncode == 0
    refused = done(*command.split(), "--data-dir", place, cwd=tmp_path, **variables)
    assert refused.returncode == 2, refused.stderr
    assert f"--data-dir: should be a directory that can be created and written; {place}: " in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_file_name_that_is_not_utf8_causes_no_traceback(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    (tmp_path / name).write_bytes(CLIP.read_bytes())
    refused = done("upload", name, cwd=tmp_path, BROKER_TOKEN="x", BROKER_URL="http://127.0.0.1:1/api")
    assert refused.returncode == 1
    assert refused.stderr.strip().startswith("No broker answers at")
    odd = os.fsdecode(b"caf\xe9.odd")
    (tmp_path / odd).touch()
    refused = done("upload", odd, cwd=tmp_path, BROKER_TOKEN="x")
    assert (refused.returncode, "Traceback" in refused.stderr) == (2, False)
    assert "caf\N{REPLACEMENT CHARACTER}.odd" in refused.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_offered(shell: str, tmp_path: Path) -> None:
    asked = {
        "_BROKER_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": "broker media li",
        "COMP_CWORD": "2",
        "_TYPER_COMPLETE_ARGS": "broker media li",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    command = [str(Path(sys.executable).with_name("broker"))]
    shown = subprocess.run(
        command, cwd=tmp_path, env=environment(tmp_path, **asked), capture_output=True, text=True, check=False
    )
    assert "list" in shown.stdout


async def test_a_file_that_vanishes_meanwhile_does_not_stop_the_others(tmp_path: Path) -> None:
    names = ["first.mp4", "second.mp4", "third.mp4"]
    for name in names:
        (tmp_path / name).write_bytes(b"video")
    problem = {"type": "urn:s3-media:problem:quota-exceeded", "detail": "That is too much."}
    async with receiving((403, problem)) as broker:
        (refuse,) = broker.answers

        async def remove_and_refuse(writer: asyncio.StreamWriter) -> None:
            (tmp_path / "second.mp4").unlink(missing_ok=True)
            await refuse(writer)

        broker.answers = [remove_and_refuse]
        told = {"BROKER_TOKEN": "x", "BROKER_URL": broker.url}
        ended = await asyncio.to_thread(lambda: done("upload", "--json", *names, cwd=tmp_path, **told))
    assert (ended.returncode, "Traceback" in ended.stderr) == (1, False)
    reports = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [(report["file"], report["success"]) for report in reports] == [(name, False) for name in names]
    assert [report["error"] for report in reports][::2] == ["403: That is too much."] * 2
    assert "No such file" in reports[1]["error"]


def test_a_name_changes_neither_the_terminal_nor_itself(tmp_path: Path) -> None:
    (tmp_path / ":key:\x1b[2J.mp4").write_bytes(b"video")
    ended = done("upload", ":key:\x1b[2J.mp4", "absent.mp4", cwd=tmp_path, BROKER_TOKEN="x")
    assert ended.returncode == 2
    several = done(
        "upload",
        ":key:\x1b[2J.mp4",
        ":key:\x1b[2J.mp4",
        cwd=tmp_path,
        BROKER_TOKEN="x",
        BROKER_URL="http://127.0.0.1:1/",
    )
    assert ":key:\N{REPLACEMENT CHARACTER}[2J.mp4: No broker answers at" in several.stderr
    assert "\x1b[2J" not in several.stderr
