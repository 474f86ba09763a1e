"""`broker upload`: from a file to a playback link."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from broker.client import Client, FileRefused, Unreachable
from broker.client.requests import UNANSWERED
from broker.client.wire import bare_token
from broker.dev.s3 import Fault
from tests.cli.conftest import Dev, no_rest
from tests.support.processes import CLIP, done, environment
from tests.support.stack import Stack, running_stack, token

MB = 1_000_000
LARGE = int(os.environ.get("BROKER_TEST_UPLOAD_MIB", "120")) * 1024**2


def test_the_printed_link_plays_the_file(dev: Dev) -> None:
    uploaded = done("upload", str(CLIP), cwd=dev.cwd, **dev.variables)
    assert uploaded.returncode == 0, uploaded.stderr
    (link,) = uploaded.stdout.splitlines()
    part = httpx.get(link, headers={"Range": "bytes=1000-1999"})
    assert (part.status_code, part.content) == (206, CLIP.read_bytes()[1000:2000])
    assert part.headers["Content-Type"] == "video/mp4"


def test_a_camera_file_is_sent_with_the_usual_type_of_its_extension(dev: Dev, tmp_path: Path) -> None:
    (tmp_path / "00001.MTS").write_bytes(CLIP.read_bytes())
    uploaded = done("upload", "00001.MTS", cwd=tmp_path, **dev.variables)
    assert uploaded.returncode == 0, uploaded.stderr
    assert httpx.get(uploaded.stdout.strip()).headers["Content-Type"] == "video/mp2t"


def test_a_file_whose_name_is_not_utf8_is_uploaded(dev: Dev, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    (tmp_path / name).write_bytes(CLIP.read_bytes())
    uploaded = done("upload", name, cwd=tmp_path, **dev.variables)
    assert uploaded.returncode == 0, uploaded.stderr
    listed = httpx.get(f"{dev.url}/", headers=dev.bearer).json()["media"]
    assert "caf\N{REPLACEMENT CHARACTER}.mp4" in [media["filename"] for media in listed]


@pytest.mark.parametrize(
    ("name", "size", "variables", "status", "words"),
    [
        ("a.mp4", 10, {"BROKER_TOKEN": ""}, 2, "BROKER_TOKEN: should be your token"),
        ("a.mp4", 10, {"BROKER_TOKEN": " \n"}, 2, "BROKER_TOKEN: should be your token"),
        ("a.mp4", 10, {"BROKER_TOKEN": "wrong"}, 1, "Not authenticated: The request needs a valid bearer token"),
        ("a.mp4", 10, {"BROKER_URL": "http://127.0.0.1:1/api/v1/s3-media"}, 1, "No broker answers at"),
        ("a.mp4", 10, {"BROKER_URL": "ftp://127.0.0.1"}, 1, "No broker answers at"),
        ("a.odd", 10, {}, 2, "--content-type: should be given, because the name 'a.odd' has no known"),
        ("a.txt", 10, {}, 1, "The content type 'text/plain' is not allowed; allowed are video/mp4"),
        ("a.mp4", 0, {}, 1, "The size of 0 bytes is not allowed"),
        ("a.mp4", 3 * 1024**3, {}, 1, "allowed are 1 to 2147483648 bytes"),
    ],
)
def test_an_error_is_printed_in_one_line(
    dev: Dev, tmp_path: Path, name: str, size: int, variables: dict[str, str], status: int, words: str
) -> None:
    with (tmp_path / name).open("wb") as file:
        file.truncate(size)
    refused = done("upload", name, cwd=tmp_path, **dev.variables | variables)
    assert (refused.returncode, refused.stdout) == (status, "")
    assert words in refused.stderr
    assert "Traceback" not in refused.stderr


def test_whitespace_around_a_token_does_no_harm(dev: Dev) -> None:
    padded = dev.variables | {"BROKER_TOKEN": f" {dev.variables['BROKER_TOKEN']}\r\n"}
    uploaded = done("upload", str(CLIP), cwd=dev.cwd, **padded)
    assert uploaded.returncode == 0, uploaded.stderr


NO_TOKENS = ["“secret”", "eyJsecret\neyJsecret", "Bearer eyJsecret", "eyJsecret\x07", "eyJsecret\udcff"]


@pytest.mark.parametrize("token", NO_TOKENS)
def test_a_token_with_invalid_characters_is_refused_without_quoting_it(dev: Dev, token: str) -> None:
    refused = done("upload", str(CLIP), cwd=dev.cwd, **dev.variables | {"BROKER_TOKEN": token})
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "BROKER_TOKEN, --token: should be printable ASCII without spaces\n"


@pytest.mark.parametrize("token", ["", *NO_TOKENS])
def test_the_client_refuses_such_a_token_without_quoting_it(token: str) -> None:
    with pytest.raises(ValueError, match=r"^should be printable ASCII without spaces$"):
        bare_token(token)


def test_an_invalid_response_that_repeats_the_token_does_not_show_it() -> None:
    def answer_all(listening: socket.socket) -> None:
        for _ in range(UNANSWERED + 1):
            connection, _address = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\neyJsecret\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:
        answered = pool.submit(answer_all, listening)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with Client(url, "eyJsecret", rest=no_rest) as client, pytest.raises(Unreachable) as failed:
            client.upload(CLIP)
        answered.result(10)
    assert str(failed.value) == f"No broker answers at {url}: RemoteProtocolError"


def test_an_address_without_a_broker_is_recognized(dev: Dev) -> None:
    refused = done("upload", str(CLIP), cwd=dev.cwd, **dev.variables | {"BROKER_URL": dev.url.partition("/api")[0]})
    assert refused.returncode == 1
    assert "answers with 404, but it is not a broker; the URL needs the path" in refused.stderr


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Run a broker whose S3 can be spoiled."""
    with running_stack(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture
def send(stack: Stack) -> Iterator[Callable[[], str]]:
    """Return a function that uploads the clip and returns its link; it rests for no time."""

    def upload() -> str:
        with Client(stack.prefix, token(), rest=no_rest) as client:
            return str(client.upload(CLIP).signed_url)

    yield upload
    stack.s3.clear_faults()
    stack.s3.set_clock(0)


def _plays(link: str) -> bool:
    return httpx.get(link).content == CLIP.read_bytes()


def test_a_briefly_unavailable_s3_is_retried(stack: Stack, send: Callable[[], str]) -> None:
    for fault in (Fault("PostObject", code="SlowDown", status=503), Fault("PostObject", reset=True)):
        stack.s3.order_fault(fault)
    assert _plays(send())


def test_an_s3_that_stays_unavailable_is_given_up(stack: Stack, send: Callable[[], str]) -> None:
    stack.s3.order_fault(Fault("PostObject", code="SlowDown", status=503, count=100))
    with pytest.raises(Unreachable, match="S3 is unavailable, or closed the connection each time"):
        send()


def test_a_broker_that_waits_for_its_s3_is_retried(stack: Stack, send: Callable[[], str]) -> None:
    stack.s3.order_fault(Fault("HeadObject", code="SlowDown", status=503, count=6))
    assert _plays(send())


def test_the_error_of_s3_is_passed_on(stack: Stack, send: Callable[[], str]) -> None:
    stack.s3.set_clock(3600)
    with pytest.raises(FileRefused, match=r"S3 refused the upload: AccessDenied: .*[Ee]xpired"):
        send()


def test_a_file_that_shrinks_during_the_upload_is_reported(stack: Stack, tmp_path: Path) -> None:
    path = tmp_path / "shrinking.mp4"
    path.write_bytes(bytes(MB))
    with (
        Client(stack.prefix, token()) as client,
        pytest.raises(FileRefused, match="The file changed while it was being sent"),
    ):
        client.upload(path, on_progress=lambda _, size: os.truncate(path, size // 2))


class Memory:
    """Watch how much memory processes hold, until left; `most` is the most that each held, in bytes."""

    def __init__(self, *pids: int) -> None:
        self.most = dict.fromkeys(pids, 0)
        self._left = threading.Event()
        self._watching = threading.Thread(target=self._watch)

    def __enter__(self) -> "Memory":
        self._watching.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._watching.join()

    def _watch(self) -> None:
        processes = {pid: psutil.Process(pid) for pid in self.most}
        while not self._left.wait(0.05):
            for pid, process in processes.items():
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    self.most[pid] = max(self.most[pid], process.memory_info().rss)


@pytest.mark.timeout(600)
def test_a_large_file_does_not_grow_the_memory_of_client_or_broker(dev: Dev, tmp_path: Path) -> None:
    large = tmp_path / "large.mp4"
    with large.open("wb") as file:
        file.truncate(LARGE)
    assert done("upload", str(CLIP), cwd=dev.cwd, **dev.variables).returncode == 0
    broker = dev.running.process.pid
    before = psutil.Process(broker).memory_info().rss
    command = [sys.executable, "-m", "broker", "upload", str(large)]
    with subprocess.Popen(command, env=environment(dev.cwd, **dev.variables), stdout=subprocess.PIPE, text=True) as one:
        with Memory(broker, one.pid) as memory:
            link = one.communicate()[0].strip()
        assert one.returncode == 0
    client, grown = memory.most[one.pid], memory.most[broker] - before
    sys.stdout.write(
        f"\n{LARGE / MB:.0f} MB sent: broker upload held {client / MB:.0f} MB at most, "
        f"the broker {before / MB:.0f} MB before and {grown / MB:.1f} MB more at most\n"
    )
    assert httpx.get(link, headers={"Range": "bytes=0-0"}).headers["Content-Range"] == f"bytes 0-0/{LARGE}"
    assert client < 150 * MB
    assert grown < 20 * MB
    media_id = link.partition("?")[0].rpartition("/")[2].rpartition("-")[0]  # before the number of the attempt
    assert httpx.delete(f"{dev.url}/{media_id}", headers=dev.bearer).status_code == 200
