"""The image: a clean Dockerfile whose steps, run in a minimal root, build a working service."""

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from broker.dev.s3 import EmbeddedS3
from tests.infra.dockerfile import REPOSITORY, Builder, Stage, chrooted, run
from tests.infra.programs import PATH, require
from tests.support.postgres import PostgreSQL

DOCKERFILE = REPOSITORY / "infra" / "Dockerfile"
BASE_PACKAGES = "ca-certificates,python3,python3-venv"
ABOUT_THE_NETWORK = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
)
SECRET = "0123456789abcdefghijklmnopqrstuvwxyz"


def test_hadolint_finds_nothing() -> None:
    require("hadolint")
    lint = subprocess.run(["hadolint", DOCKERFILE], env={"PATH": PATH}, capture_output=True, text=True, check=False)
    assert (lint.stdout, lint.returncode) == ("", 0)


def _make_base(root: Path) -> None:
    """Fill `root` with a stand-in for the base image: minimal Debian with its Python."""
    command = ["debootstrap", "--variant=minbase", f"--include={BASE_PACKAGES}", "bookworm", str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    # The root needs this machine's certificate authorities, because pip may use a proxy.
    authorities = os.environ.get("PIP_CERT") or ssl.get_default_verify_paths().cafile
    if authorities:
        shutil.copy(authorities, root / "etc/ssl/certs/ca-certificates.crt")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Yield the stage `broker`, as infra/Dockerfile builds it."""
    require("debootstrap", "unshare", root=True)
    home = tmp_path_factory.mktemp("image")
    environment = {name: os.environ[name] for name in ABOUT_THE_NETWORK if name in os.environ}
    environment["PIP_CERT"] = "/etc/ssl/certs/ca-certificates.crt"
    builder = Builder(home, _make_base, build_environment=environment)
    builder.build(DOCKERFILE, leave_out=frozenset({"build-embedded-s3", "embedded-s3"}))
    yield builder.stages["broker"]
    shutil.rmtree(home)


@pytest.mark.timeout(900)
def test_the_image_runs_as_an_unprivileged_user_on_a_read_only_root(image: Stage) -> None:
    assert image.user == "10001:10001"
    run(image, ["broker", "--help"])
    touch = chrooted(image, ["touch", "/opt/broker/written"], read_only=True)
    assert b"Read-only file system" in subprocess.run(touch, capture_output=True, check=False).stderr
    assert not (image.root / "opt/broker/bin/pip").exists()


@pytest.mark.timeout(900)
def test_serve_and_worker_answer_in_the_image(
    image: Stage, embedded_s3: EmbeddedS3, make_bucket: Callable[..., str], postgresql: PostgreSQL
) -> None:
    port = _free_port()
    environment = {
        "SECRET_KEY": SECRET,
        "AWS_S3_BUCKET_NAME": make_bucket(),
        "AWS_S3_REGION": embedded_s3.region,
        "AWS_ACCESS_KEY_ID": embedded_s3.access_key,
        "AWS_SECRET_ACCESS_KEY": embedded_s3.secret_key,
        "CLOUD_STORAGE_PROVIDER": "s3",
        "BROKER_S3_ENDPOINT_URL": embedded_s3.endpoint_url,
        "BROKER_S3_PATH_STYLE": "true",
        "BROKER_DATABASE_URL": postgresql.url(postgresql.create()),
        "BROKER_POLICY_SECONDS": "5",
        "BROKER_GRACE_SECONDS": "0",
        "BROKER_SWEEP_SECONDS": "0.5",
    }
    run(image, ["broker", "migrate"], **environment)
    serve = _words(image, "CMD", "8000", str(port), "0.0.0.0", "127.0.0.1")  # noqa: S104
    with _running(image, serve, environment), _running(image, ["worker"], environment):
        answer = _asked(f"http://127.0.0.1:{port}/healthz")
        assert answer.status_code == 200
        subprocess.run(chrooted(image, _words(image, "HEALTHCHECK", "8000", str(port)), environment), check=True)
        token = subprocess.run(
            chrooted(image, ["broker", "token"], environment), capture_output=True, text=True, check=True
        ).stdout.strip()
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}/api/v1/s3-media", headers={"Authorization": f"Bearer {token}"}
        ) as client:
            assert _status_after_upload_alone(client) == "ready"


def _status_after_upload_alone(client: httpx.Client) -> str:
    """Upload without completing, and return the status that the worker brings it to."""
    issued = client.post("/upload", json={"content_type": "video/mp4"}).raise_for_status().json()
    form = issued["upload"]
    httpx.post(form["url"], data=form["fields"], files={"file": b"a video"}).raise_for_status()
    deadline = time.monotonic() + 100
    status = "pending"
    while status in {"pending", "promoting"} and time.monotonic() < deadline:
        time.sleep(0.5)
        status = client.get("/").raise_for_status().json()["media"][0]["status"]
    return status


def _words(image: Stage, instruction: str, *replaced: str) -> list[str]:
    """Return the words of an instruction's exec form, with replacements of the image's addresses."""
    text = image.metadata[instruction]
    words: list[str] = json.loads(text[text.index("[") :])
    changes = dict(zip(replaced[::2], replaced[1::2], strict=True))
    for old, new in changes.items():
        words = [word.replace(old, new) for word in words]
    return words


@contextmanager
def _running(image: Stage, command: list[str], environment: dict[str, str]) -> Iterator[None]:
    """Run the image's program; it must exit on SIGTERM."""
    started = subprocess.Popen(
        chrooted(image, ["broker", *command], environment, read_only=True),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield
        assert started.poll() is None, started.communicate()[0]
    finally:
        started.terminate()
        try:
            output = started.communicate(timeout=30)[0]
        except subprocess.TimeoutExpired:
            started.kill()
            raise
        sys.stdout.write(output)


def _asked(url: str) -> httpx.Response:
    deadline = time.monotonic() + 100
    while True:
        try:
            return httpx.get(url)
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
