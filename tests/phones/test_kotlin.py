"""The kit for Android, compiled by Kotlin's own compiler and run on the JVM, against the broker."""

import hashlib
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Route

from broker.dev.s3 import Fault
from tests.support.live import live
from tests.support.npm import CACHE, missing, packages, program
from tests.support.parts_broker import PartsBroker
from tests.support.processes import ROOT
from tests.support.waiting import until

KIT = ROOT / "infra" / "phones" / "BrokerUploads.kt"
RUNNER = Path(__file__).with_name("Runner.kt")
JSON = Path("/usr/share/java/com.android.json.jar")
"""Android's own `org.json`, of Debian's libandroid-json-java."""
Run = Callable[..., "subprocess.CompletedProcess[str]"]
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def jar() -> Path:
    """Compile the kit with a command line, and keep the result for the next run."""
    java = program("java")
    if not JSON.exists():
        missing("libandroid-json-java")
    compiler = packages("kotlin-compiler@2.4.20") / "node_modules" / "kotlin-compiler" / "lib"
    compiled = CACHE / f"phones-{hashlib.sha256(KIT.read_bytes() + RUNNER.read_bytes()).hexdigest()[:16]}.jar"
    if not compiled.exists():
        options = ["-Werror", "-classpath", str(JSON), "-no-reflect", "-include-runtime", "-d", str(compiled)]
        kotlinc = subprocess.run(
            [
                *(java, "-cp", str(compiler / "kotlin-preloader.jar"), "org.jetbrains.kotlin.preloading.Preloader"),
                *("-cp", str(compiler / "kotlin-compiler.jar"), "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"),
                *("-kotlin-home", str(compiler.parent), *options, str(KIT), str(RUNNER)),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert kotlinc.returncode == 0, kotlinc.stderr
    return compiled


@pytest.fixture
def command(jar: Path, served: PartsBroker, tmp_path: Path) -> Callable[..., list[str]]:
    """Return a function that returns a command on the uploads of one folder."""
    return partial(runner, jar, tmp_path, served.prefix, served.token)


def runner(jar: Path, folder: Path, prefix: str, token: str, *arguments: str) -> list[str]:
    """Return a command on the uploads of a folder, through the broker at `prefix`."""
    started = [program("java"), "-cp", f"{jar}:{JSON}", "RunnerKt", str(folder / "uploads")]
    return [*started, prefix, token, *arguments]


@pytest.fixture
def run(command: Callable[..., list[str]]) -> Run:
    """Return a function that runs a command to its end."""

    def start(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(command(*arguments), capture_output=True, text=True, check=False)

    return start


def content(served: PartsBroker, media_id: str) -> bytes:
    """Return the bytes of a ready media."""
    answer = httpx.get(f"{served.prefix}/{media_id}", headers={"Authorization": f"Bearer {served.token}"})
    return httpx.get(answer.raise_for_status().json()["signed_url"]).content


def test_a_video_is_uploaded_in_parts_despite_failures_of_s3(run: Run, served: PartsBroker, video: Path) -> None:
    run("add", str(video), "video/mp4").check_returncode()
    for code, status in {"SlowDown": 503, "ExpiredToken": 400, "RequestTimeout": 400}.items():
        served.s3.order_fault(Fault("PostObject", code=code, status=status))
    ran = run("run")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    *progress, media_id = ran.stdout.splitlines()
    assert progress == ["0 of 6", "3 of 6", "6 of 6"]
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


def test_an_upload_outlasts_a_network_that_answers_with_a_page_of_its_own(
    jar: Path, tmp_path: Path, video: Path
) -> None:
    login = Route("/{path:path}", lambda _: HTMLResponse("<h1>Please log in</h1>"), methods=["POST"])
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


def test_a_cancelled_upload_is_deleted(run: Run, served: PartsBroker, video: Path) -> None:
    run("add", str(video), "video/mp4").check_returncode()
    served.s3.order_fault(Fault("PostObject", count=1000, code="AccessDenied", status=403))
    assert run("run").returncode == 75
    served.s3.clear_faults()
    run("cancel").check_returncode()
    headers = {"Authorization": f"Bearer {served.token}"}
    assert httpx.get(f"{served.prefix}/", headers=headers).json()["media"] == []
