"""The kit for Android, compiled by Kotlin's own compiler and run on the JVM, against the broker."""

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from broker.dev.s3 import EmbeddedS3, Fault
from tests.support.live import live
from tests.support.npm import CACHE, missing, packages, program
from tests.support.parts_broker import PART, PartsBroker, parts_broker
from tests.support.processes import ROOT
from tests.support.slow_link import SlowLink
from tests.support.waiting import until

KIT = ROOT / "infra" / "phones" / "BrokerUploads.kt"
GUIDE = ROOT / "infra" / "guides" / "phones.md"
RUNNER = Path(__file__).with_name("Runner.kt")
ANDROID = Path(__file__).with_name("Android.kt")
JSON = Path("/usr/share/java/com.android.json.jar")
"""Android's own `org.json`, of Debian's libandroid-json-java."""
Run = Callable[..., "subprocess.CompletedProcess[str]"]
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def jar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the kit with a command line, and keep the result for the next run."""
    java = program("java")
    if not JSON.exists():
        missing("libandroid-json-java")
    compiler = packages("kotlin-compiler@2.4.20") / "node_modules" / "kotlin-compiler" / "lib"
    sources = {file.name: file.read_text("utf-8") for file in (KIT, RUNNER, ANDROID)} | {"Worker.kt": worker()}
    compiled = CACHE / f"phones-{hashlib.sha256(''.join(sources.values()).encode()).hexdigest()[:16]}.jar"
    if not compiled.exists():
        folder = tmp_path_factory.mktemp("kotlin")
        for name, source in sources.items():
            (folder / name).write_text(source, "utf-8")
        options = ["-Werror", "-classpath", str(JSON), "-no-reflect", "-include-runtime", "-d", str(compiled)]
        kotlinc = subprocess.run(
            [
                *(java, "-cp", str(compiler / "kotlin-preloader.jar"), "org.jetbrains.kotlin.preloading.Preloader"),
                *("-cp", str(compiler / "kotlin-compiler.jar"), "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"),
                *("-kotlin-home", str(compiler.parent), *options, str(folder)),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert kotlinc.returncode == 0, kotlinc.stderr
    return compiled


def worker() -> str:
    """Return the guide's worker as a file, with the address and the token of the test's session."""
    block = re.search(r"```kotlin\n(.+?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    assert block is not None
    source, count = re.subn(r'"https://[^"]+"', "session.prefix", block[1])
    assert count == 1
    imports = ("example.uploads.BrokerUploads", "example.uploads.Refused", "java.io.File", "java.io.IOException")
    return "".join(f"import {name}\n" for name in imports) + source


@pytest.fixture
def command(jar: Path, served: PartsBroker, tmp_path: Path) -> Callable[..., list[str]]:
    """Return a function that returns a command on the uploads of one folder."""
    return partial(runner, jar, tmp_path, served.prefix, served.token)


def runner(jar: Path, folder: Path, prefix: str, token: str, *arguments: str, retry_millis: int = 1000) -> list[str]:
    """Return a command on the uploads of a folder, through the broker at `prefix`."""
    started = [program("java"), "-cp", f"{jar}:{JSON}", "RunnerKt", str(folder / "uploads")]
    return [*started, prefix, token, str(retry_millis), *arguments]


@pytest.fixture
def run(command: Callable[..., list[str]]) -> Run:
    """Return a function that runs a command to its end."""

    def start(*arguments: str, **options: int) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(command(*arguments, **options), capture_output=True, text=True, check=False)

    return start


def content(served: PartsBroker, media_id: str) -> bytes:
    """Return the bytes of a ready media."""
    answer = httpx.get(f"{served.prefix}/{media_id}", headers={"Authorization": f"Bearer {served.token}"})
    return httpx.get(answer.raise_for_status().json()["signed_url"]).content


def test_a_video_is_uploaded_in_parts_despite_failures_of_s3(run: Run, served: PartsBroker, video: Path) -> None:
    run("add", str(video), "video/mp4").check_returncode()
    refusals = {"SlowDown": 503, "ExpiredToken": 400, "RequestTimeout": 400, "TooManyRequests": 429}
    for code, status in refusals.items():
        served.s3.order_fault(Fault("PostObject", code=code, status=status))
    ran = run("run")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    *progress, media_id = ran.stdout.splitlines()
    assert progress == ["0 of 6", "2 of 6", "6 of 6"]
    assert content(served, media_id) == video.read_bytes()
    assert run("run").stdout == ""


def test_an_upload_goes_on_after_the_apps_death(
    run: Run, command: Callable[..., list[str]], served: PartsBroker, video: Path
) -> None:
    run("add", str(video), "video/mp4").check_returncode()
    served.s3.order_fault(Fault("PostObject", count=6, delay_seconds=3))
    with subprocess.Popen(command("run"), stdout=subprocess.DEVNULL) as app:
        until(served.staged)
        app.kill()
    served.s3.clear_faults()
    arrived = len(served.staged())
    assert 0 < arrived < 6
    ran = run("run")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    progress, *_, media_id = ran.stdout.splitlines()
    assert int(progress.split()[0]) >= arrived
    assert content(served, media_id) == video.read_bytes()


@pytest.mark.parametrize(("code", "status"), [("AccessDenied", 403), ("SlowDown", 503)])
def test_a_run_ends_if_s3_refuses_every_part(
    run: Run, served: PartsBroker, video: Path, code: str, status: int
) -> None:
    run("add", str(video), "video/mp4").check_returncode()
    # Each of the six parts once, then one part in each of nine rounds. S3 would store a further one.
    served.s3.order_fault(Fault("PostObject", count=6 + 9, code=code, status=status))
    ran = run("run", retry_millis=1)
    assert (ran.returncode, ran.stdout.splitlines()[-1]) == (75, "later: S3 stores no further part.")
    assert served.staged() == []
    assert run("run").returncode == 0


def test_a_form_that_expires_before_its_turn_is_not_sent(
    jar: Path, tmp_path: Path, embedded_s3: EmbeddedS3, s3_client: Any, bucket: str, video: Path
) -> None:
    with SlowLink() as link:
        address = link.to(embedded_s3.endpoint_url)
        with parts_broker(
            tmp_path, embedded_s3, s3_client, bucket, policy_seconds=8, s3_endpoint_url=address
        ) as broker:
            command = partial(runner, jar, tmp_path, broker.prefix, broker.token)
            subprocess.run(command("add", str(video), "video/mp4"), check=True)
            embedded_s3.order_fault(Fault("PostObject", count=3, delay_seconds=9, when="after"))
            subprocess.run(command("run"), check=True)
    assert link.sent_bytes < video.stat().st_size + PART


@pytest.mark.parametrize("page", [HTMLResponse("<h1>Please log in</h1>"), JSONResponse({"login": "/portal"})])
def test_an_upload_outlasts_a_network_that_answers_with_a_page_of_its_own(
    jar: Path, tmp_path: Path, video: Path, page: Response
) -> None:
    login = Route("/{path:path}", lambda _: page, methods=["POST"])
    with live(Starlette(routes=[login])) as network:
        for arguments, status in ((("add", str(video), "video/mp4"), 0), (("run",), 75), (("run",), 75)):
            assert subprocess.run(runner(jar, tmp_path, network, "token", *arguments), check=False).returncode == status


def test_a_refused_upload_is_forgotten_and_says_why(run: Run, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no video")
    run("add", str(text), "text/plain").check_returncode()
    ran = run("run")
    assert (ran.returncode, ran.stdout.partition("'")[0]) == (1, "refused: The content type ")
    assert run("run").stdout == ""


def test_an_upload_whose_video_is_gone_is_refused(run: Run, served: PartsBroker, video: Path) -> None:
    run("add", str(video), "video/mp4").check_returncode()
    video.unlink()
    ran = run("run")
    assert (ran.returncode, ran.stdout.splitlines()[-1]) == (1, "refused: The video is gone.")


def test_the_guides_worker_goes_on_after_a_refused_upload(
    run: Run, served: PartsBroker, tmp_path: Path, video: Path
) -> None:
    folder = tmp_path / "uploads"
    for _ in range(2):
        run("add", str(video), "video/mp4").check_returncode()
    first = folder / os.listdir(folder)[0]  # in the order in which Java lists them, too
    first.write_text(json.dumps(json.loads(first.read_text("utf-8")) | {"type": "text/plain"}), "utf-8")
    ran = run("work")
    refusal, result = ran.stdout.splitlines()
    assert refusal.startswith(f"uploads: {first.stem}: The content type ")
    assert result == "success"
    (media,) = _media(served)
    assert content(served, media["media_id"]) == video.read_bytes()


def test_the_guides_worker_is_retried_for_an_upload_that_may_succeed_later(
    run: Run, served: PartsBroker, video: Path
) -> None:
    for _ in range(2):
        run("add", str(video), "video/mp4").check_returncode()
    served.s3.order_fault(Fault("PostObject", reset=True))
    assert run("work").stdout.splitlines() == ["retry"]
    assert sorted(media["status"] for media in _media(served)) == ["pending", "ready"]
    assert run("work").stdout.splitlines() == ["success"]
    assert [media["status"] for media in _media(served)] == ["ready", "ready"]


def test_a_cancelled_upload_is_deleted(run: Run, served: PartsBroker, video: Path) -> None:
    run("add", str(video), "video/mp4").check_returncode()
    served.s3.order_fault(Fault("PostObject", count=1000, code="AccessDenied", status=403))
    assert run("run", retry_millis=1).returncode == 75
    served.s3.clear_faults()
    run("cancel").check_returncode()
    assert _media(served) == []


def test_an_upload_is_forgotten_if_its_media_is_deleted_already(run: Run, served: PartsBroker, video: Path) -> None:
    run("add", str(video), "video/mp4").check_returncode()
    served.s3.order_fault(Fault("PostObject", reset=True))
    assert run("run").returncode == 75
    (media,) = _media(served)
    headers = {"Authorization": f"Bearer {served.token}"}
    httpx.delete(f"{served.prefix}/{media['media_id']}", headers=headers).raise_for_status()
    run("cancel").check_returncode()
    assert run("run").stdout == ""


@pytest.mark.parametrize("moment", ["issue", "parts"])
def test_an_upload_that_is_cancelled_while_it_runs_sends_nothing(
    run: Run, served: PartsBroker, video: Path, moment: str
) -> None:
    run("add", str(video), "video/mp4").check_returncode()
    ran = run(f"cancel-during-{moment}")
    assert (ran.returncode, ran.stdout) == (1, "refused: The upload was cancelled.\n")
    assert _media(served) == []


def _media(served: PartsBroker) -> list[dict[str, Any]]:
    """Return the user's media."""
    answer = httpx.get(f"{served.prefix}/", headers={"Authorization": f"Bearer {served.token}"})
    media: list[dict[str, Any]] = answer.raise_for_status().json()["media"]
    return media
