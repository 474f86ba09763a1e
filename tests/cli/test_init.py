"""`broker init`: the first `.env`, written once, and what a deployment still lacks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import done, environment, read_variables

NAMED = ("--bucket", "acme-media", "--region", "eu-central-1")


def written(folder: Path) -> dict[str, str]:
    """Return the variables in the folder's `.env`."""
    return read_variables((folder / ".env").read_text("utf-8"))


def advised(stdout: str) -> list[str]:
    """Return the names of what is still missing."""
    return [line.strip().partition(":")[0] for line in stdout.splitlines() if line.startswith("  ")]


def test_a_first_env_starts_one_process_that_sweeps(tmp_path: Path) -> None:
    first = done("init", *NAMED, cwd=tmp_path)
    assert (first.returncode, first.stderr) == (0, "")
    values = written(tmp_path)
    secret = values.pop("SECRET_KEY")
    assert values == {
        "AWS_S3_BUCKET_NAME": "acme-media",
        "AWS_S3_REGION": "eu-central-1",
        "BROKER_DATABASE_URL": "sqlite:///broker.db",
        "BROKER_SWEEP": "true",
    }
    assert len(secret) == 64
    assert secret not in first.stdout
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    assert advised(first.stdout) == ["keys", "database", "tokens", "CORS"]
    assert done("migrate", cwd=tmp_path).stderr == ""


def test_the_questions_are_answered_by_a_person(tmp_path: Path) -> None:
    asked = subprocess.run(
        [sys.executable, "-m", "broker", "init"],
        cwd=tmp_path,
        env=environment(tmp_path),
        input="acme-media\neu-central-1\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert asked.stderr.split(":")[:2] == ["The bucket's name", " Its region, such as eu-central-1"]
    assert written(tmp_path)["AWS_S3_BUCKET_NAME"] == "acme-media"


def test_every_secret_is_new(tmp_path: Path) -> None:
    secrets = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        assert done("init", *NAMED, cwd=tmp_path / name).returncode == 0
        secrets.add(written(tmp_path / name)["SECRET_KEY"])
    assert len(secrets) == 2


def test_the_options_name_another_store_a_database_and_pages(tmp_path: Path) -> None:
    options = ("--endpoint-url", "https://rgw.example", "--database-url", "postgresql://anna:pass@db.example/broker")
    origins = ("--origin", "https://app.example", "--origin", "https://admin.example")
    first = done("init", *NAMED, *options, *origins, cwd=tmp_path, AWS_ACCESS_KEY_ID="id", AWS_SECRET_ACCESS_KEY="key")
    assert first.returncode == 0, first.stderr
    values = written(tmp_path)
    assert values["CLOUD_STORAGE_PROVIDER"] == "s3"
    assert (values["BROKER_S3_ENDPOINT_URL"], values["BROKER_S3_PATH_STYLE"]) == ("https://rgw.example", "true")
    assert values["BROKER_DATABASE_URL"] == "postgresql://anna:pass@db.example/broker"
    assert values["BROKER_CORS_ORIGINS"] == "https://app.example,https://admin.example"
    assert "BROKER_SWEEP" not in values
    assert advised(first.stdout) == ["worker", "tokens"]
    assert "pass@" not in first.stdout


@pytest.mark.parametrize("existing", ["a file", "a dangling link"])
def test_an_existing_file_is_left_unchanged(tmp_path: Path, existing: str) -> None:
    file = tmp_path / ".env"
    if existing == "a file":
        file.write_text("SECRET_KEY=the old one")
    else:
        file.symlink_to(tmp_path / "absent")
    refused = done("init", cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(".env: exists already, and is left unchanged")
    assert not (tmp_path / "absent").exists()
    assert file.is_symlink() or file.read_text() == "SECRET_KEY=the old one"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--region", "eu-central-1"), "--bucket: should be given"),
        (("--bucket", "acme-media"), "--region: should be given"),
        (("--bucket", "Acme", "--region", "eu-central-1"), "--bucket: 'Acme' should be 3 to 63 lower-case letters"),
        (("--bucket", "acme-media", "--region", "EU"), "AWS_S3_REGION: should be a region's name"),
        (("--bucket", "acme-media", "--region", "nowhere"), "AWS_S3_REGION: should be a region of AWS, not 'nowhere'"),
        ((*NAMED, "--origin", "*"), "BROKER_CORS_ORIGINS: should be exact origins"),
        ((*NAMED, "--database-url", "mysql://db"), "BROKER_DATABASE_URL: should be sqlite:///file or postgresql://"),
        ((*NAMED, "--database-url", "sqlite:///a b"), "BROKER_DATABASE_URL: should have no spaces, quotes, # or $"),
    ],
)
def test_a_value_that_no_broker_can_use_is_refused_and_nothing_is_written(
    tmp_path: Path, options: tuple[str, ...], line: str
) -> None:
    refused = done("init", *options, cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.splitlines()[-1].startswith(line)
    assert os.listdir(tmp_path) == []
