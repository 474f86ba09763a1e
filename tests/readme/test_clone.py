"""The commands of README and of the production guide, word for word, in a clone of this repository.

Packages come from the package index, so these tests take minutes.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from broker.dev.s3 import EmbeddedS3
from tests.readme.blocks import commands
from tests.support.npm import missing, program
from tests.support.processes import ROOT, START_SECONDS, Running, done, environment, running

BUCKET = "acme-media"
NAMED = ("--bucket", BUCKET, "--region", "eu-central-1")
SERVES = r"running on (http://127\.0\.0\.1:\d+)"
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy every file that git tracks, or would track, and return the folder."""
    folder = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def surroundings(folder: Path, **variables: str) -> dict[str, str]:
    """Return the environment of a new user: no Python path, and pip's own settings, which name the package index."""
    index = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_"))}
    index["PIP_NO_COMPILE"] = "0"  # means --no-compile, and halves the time of an installation
    return environment(Path(os.environ["HOME"]), **index, PYTHONPATH="", XDG_CONFIG_HOME=str(folder)) | variables


def shell(script: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a block in a shell of its own, which stops at the first failure."""
    return subprocess.run(
        [program("bash"), "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=surroundings(folder, **variables),
        capture_output=True,
        text=True,
        check=False,
    )


@contextmanager
def serving(script: str, folder: Path, **variables: str) -> Iterator[Running]:
    """Run a block whose last command serves until it is ended."""
    bash = (program("bash"), "-euo", "pipefail", "-c")
    with running(script, cwd=folder, program=bash, **surroundings(folder, **variables)) as started:
        yield started


@pytest.fixture(scope="module")
def installed(clone: Path) -> Path:
    """Build and install as the production guide says, and return the clone."""
    built = shell(commands("infra/guides/production.md", "build"), clone)
    if built.returncode != 0:
        missing(f"package index that gives the build's packages ({built.stderr.strip()[-300:]})")
    suffixes = sorted(path.name.rpartition(".")[2] for path in (clone / "dist").iterdir())
    assert suffixes == ["gz", "tgz", "whl"]
    install = shell(commands("infra/guides/production.md", "install"), clone)
    if install.returncode != 0:
        missing(f"package index that gives the wheel's dependencies ({install.stderr.strip()[-300:]})")
    return clone


@pytest.fixture
def store(embedded_s3: EmbeddedS3, s3_client: Any, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Make the guide's bucket, apply the doctor's fixes to it, and return the environment that leads to it."""
    s3_client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": embedded_s3.region})
    keys = {"AWS_ACCESS_KEY_ID": embedded_s3.access_key, "AWS_SECRET_ACCESS_KEY": embedded_s3.secret_key}
    endpoint = {"CLOUD_STORAGE_PROVIDER": "s3", "BROKER_S3_ENDPOINT_URL": embedded_s3.endpoint_url}
    variables = {**keys, **endpoint, "BROKER_S3_PATH_STYLE": "true", "BROKER_PORT": "0"}
    assert done("init", *NAMED, cwd=tmp_path, **variables).returncode == 0
    report = json.loads(done("doctor", "--json", cwd=tmp_path, **variables).stdout)
    for finding in report["findings"]:
        if finding["verdict"] == "fail" and finding["fix"].startswith("aws "):
            path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
            fixed = shell(finding["fix"], tmp_path, **keys, PATH=path)
            assert fixed.returncode == 0, fixed.stderr
    yield variables
    for version in s3_client.list_object_versions(Bucket=BUCKET).get("Versions", []):
        s3_client.delete_object(Bucket=BUCKET, Key=version["Key"])
    s3_client.delete_bucket(Bucket=BUCKET)


@pytest.fixture
def deployment(installed: Path) -> Iterator[Path]:
    """Return the installed clone without settings or records of another test."""
    yield installed
    for name in (".env", "broker.db", "broker.db-shm", "broker.db-wal"):
        (installed / name).unlink(missing_ok=True)


def test_a_production_start_runs_word_for_word(deployment: Path, store: dict[str, str]) -> None:
    activate = ". venv/bin/activate\n"
    start = activate + commands("infra/guides/production.md", "start")
    with serving(start, deployment, **store) as broker:
        address = broker.wait_for(SERVES, seconds=240)[1]
        assert "fail" not in broker.said.partition("{")[0]
        assert (deployment / ".env").stat().st_mode & 0o777 == 0o600
        again = shell(f"{activate}broker init", deployment)
        assert (again.returncode, again.stderr.partition(":")[0]) == (2, ".env")
        upload = shell(
            commands("infra/guides/production.md", "try"), deployment, BROKER_URL=f"{address}/api/v1/s3-media"
        )
        assert upload.returncode == 0, upload.stderr
        assert upload.stdout.startswith(store["BROKER_S3_ENDPOINT_URL"])


def test_several_processes_start_word_for_word(deployment: Path, store: dict[str, str], postgresql_url: str) -> None:
    activate = ". venv/bin/activate\n"
    store |= {"BROKER_DATABASE_URL": postgresql_url, "SECRET_KEY": "a secret of at least thirty-two bytes"}
    store |= {"AWS_S3_BUCKET_NAME": BUCKET, "AWS_S3_REGION": "eu-central-1"}
    several = activate + commands("infra/guides/production.md", "several")
    with serving(several, deployment, **store) as broker:
        address = broker.wait_for(SERVES, seconds=240)[1]
        with serving(activate + commands("infra/guides/production.md", "worker"), deployment, **store) as worker:
            worker.wait_for('"working"', seconds=240)
            _wait_until_it_accepts(address)
            upload = shell(
                commands("infra/guides/production.md", "try"),
                deployment,
                **store | {"BROKER_URL": f"{address}/api/v1/s3-media"},
            )
            assert upload.returncode == 0, upload.stderr + broker.said


def test_the_first_minute_of_readme_runs_word_for_word(clone: Path) -> None:
    with serving(commands("README.md", "start"), clone) as broker:
        broker.wait_for("Try in another terminal", seconds=600)
        upload = shell(commands("README.md", "try"), clone)
    assert upload.returncode == 0, upload.stderr + broker.said
    assert upload.stdout.startswith("http://127.0.0.1:")


def _wait_until_it_accepts(address: str) -> None:
    """Wait for the first of several processes; the address is logged before they accept connections."""
    deadline = time.monotonic() + 2 * START_SECONDS  # four processes import the application at once
    while True:
        try:
            assert httpx.get(f"{address}/healthz").status_code == 200
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            return
