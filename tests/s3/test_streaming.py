"""Large bodies go to disk as they come, many at once, and a broken one leaves nothing."""

import concurrent.futures
import os
import socket
from collections.abc import Iterator

import httpx
import psutil
import pytest

from broker.dev.s3 import start_embedded_s3
from tests.s3.forms import BOUNDARY, Form

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def own_s3(tmp_path_factory):
    """Run a server of its own, so that its memory and its files are those of this test."""
    data_dir = tmp_path_factory.mktemp("s3")
    with start_embedded_s3(buckets=["videos"], data_dir=data_dir) as s3:
        yield s3, data_dir


def streamed(form: Form, size: int) -> tuple[Iterator[bytes], int]:
    """Return the form with a file of `size` zero bytes, in chunks, and the length of the whole."""
    form.file = b""
    head, tail = form.body().split(b"\r\n\r\n\r\n--" + BOUNDARY.encode() + b"--")
    head, tail = head + b"\r\n\r\n", b"\r\n--" + BOUNDARY.encode() + b"--" + tail

    def chunks() -> Iterator[bytes]:
        yield head
        for _ in range(size // MIB):
            yield bytes(MIB)
        yield tail

    return chunks(), len(head) + size + len(tail)


def post(s3, key: str, size: int) -> httpx.Response:
    """Post a file of `size` bytes without holding it in memory."""
    form = Form(s3, "videos", fields={"key": key})
    content, length = streamed(form, size)
    headers = {"Content-Type": form.content_type, "Content-Length": str(length)}
    return httpx.post(f"{s3.endpoint_url}/videos", content=content, headers=headers, timeout=120)


def files(data_dir) -> list[str]:
    """Return the files of bytes under a data directory."""
    return [str(p) for p in data_dir.rglob("*") if p.is_file() and p.suffix != ".json"]


def peak_memory(pid: int) -> int:
    """Return the most memory that a process has held so far, in bytes."""
    with open(f"/proc/{pid}/status") as status:
        (line,) = [line for line in status if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def test_100_mb_stream_to_disk(own_s3):
    s3, _ = own_s3
    assert post(s3, "warm", MIB).status_code == 204
    before = peak_memory(s3.pid)
    response = post(s3, "large", 100 * MIB)
    assert response.status_code == 204
    assert response.headers["etag"] == '"2f282b84e7e608d5852449ed940bfc51"'
    assert peak_memory(s3.pid) - before < 20 * MIB


def test_32_at_once_of_8_mb_succeed(own_s3):
    s3, data_dir = own_s3
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda n: post(s3, f"many/{n}", 8 * MIB), range(32)))
    assert [answer.status_code for answer in answers] == [204] * 32
    assert len([path for path in files(data_dir) if os.path.getsize(path) == 8 * MIB]) == 32
    assert len(psutil.Process(s3.pid).open_files()) < 5


def test_an_upload_that_breaks_off_leaves_nothing(own_s3):
    s3, data_dir = own_s3
    before = files(data_dir)
    form = Form(s3, "videos", fields={"key": "broken"})
    content, length = streamed(form, 4 * MIB)
    with socket.create_connection(("127.0.0.1", s3.port)) as connection:
        head = f"POST /videos HTTP/1.1\r\nHost: s3\r\nContent-Type: {form.content_type}\r\n"
        connection.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode())
        connection.sendall(next(content) + next(content))
    # The server answers requests in turn: once it answers this one it has seen the loss.
    for _ in range(50):
        assert post(s3, "after", MIB).status_code == 204
        if len(files(data_dir)) <= len(before) + 1:
            break
    assert not [path for path in files(data_dir) if "/incoming/" in path]


def test_a_body_without_its_length_is_refused(own_s3):
    s3, _ = own_s3
    form = Form(s3, "videos")
    content, _ = streamed(form, MIB)
    response = httpx.post(f"{s3.endpoint_url}/videos", content=content, headers={"Content-Type": form.content_type})
    assert response.status_code == 501
    assert b"<Header>Transfer-Encoding</Header>" in response.content
