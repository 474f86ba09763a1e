"""Bounds on the head of a request, in size and time, over a real socket."""

import asyncio
import gc
import itertools
import re
import socket
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.server import ServerState

from broker.api.asgi.document import AT_ONCE, Document
from broker.app import PREFIX, create_app
from broker.server.connections import MAX_HEAD_BYTES, MAX_WAITING, BoundedConnection
from tests.support.live import live
from tests.support.serving import bearing, settings_of, token


class Hasty(BoundedConnection):
    """Wait half a second for a head."""

    max_head_seconds = 0.5


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with live(create_app(settings_of(tmp_path_factory.mktemp("connections"))), http=Hasty) as url:
        yield url


def connected(address: str) -> socket.socket:
    url = httpx.URL(address)
    connection = socket.create_connection((url.host, url.port or 80))
    connection.settimeout(60)
    return connection


def rest_of(connection: socket.socket) -> bytes:
    """Read until the server closes."""
    return rest_and_end_of(connection)[0]


def rest_and_end_of(connection: socket.socket) -> tuple[bytes, bool]:
    """Read until the server closes; return that, and whether it ended in a reset, which loses what was not read yet."""
    found = b""
    try:
        while part := connection.recv(65536):
            found += part
    except ConnectionResetError:
        return found, True
    return found, False


def sent_until_closed(connection: socket.socket, piece: bytes, *, times: int, pause: float = 0) -> int:
    """Return how many pieces could be sent."""
    for sent in itertools.count():
        assert sent < times, "the server took it all"
        try:
            connection.sendall(piece)
        except OSError:
            return sent
        time.sleep(pause)
    raise AssertionError


GET = b"GET /healthz HTTP/1.1\r\nHost: broker.example\r\n"
HEAD = b"HEAD /healthz HTTP/1.1\r\nHost: broker.example\r\n"


@pytest.mark.parametrize("begun", [b"", b"\r\n", b"G", GET, GET + b"X-Slow: ", b"GET /" + b"x" * 1000])
def test_a_head_that_does_not_end_gets_408(address: str, begun: bytes) -> None:
    with connected(address) as connection:
        connection.sendall(begun)
        assert rest_of(connection).startswith(b"HTTP/1.1 408 ")


def test_a_head_that_arrives_byte_by_byte_gets_no_extra_time(address: str) -> None:
    with connected(address) as connection:
        connection.sendall(GET + b"X-Slow: ")
        assert sent_until_closed(connection, b"x", times=100, pause=0.05) > 3


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * MAX_HEAD_BYTES + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        GET + b"X-Large: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n",
        GET + b"X-Many: 12345678\r\n" * (MAX_HEAD_BYTES // 14) + b"\r\n",
        GET + b"X-Endless: " + b"x" * 500_000,
    ],
    ids=["the address", "one header", "many headers", "an endless header"],
)
def test_a_large_head_is_refused(address: str, head: bytes) -> None:
    with connected(address) as connection:
        try:
            connection.sendall(head)
        except OSError:
            return  # it was closed before all was sent
        answer = rest_of(connection)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 431 ")


def test_a_large_head_takes_no_memory_of_its_size(address: str) -> None:
    with connected(address) as connection:
        connection.sendall(GET + b"X-Endless: ")
        assert sent_until_closed(connection, b"x" * 65536, times=1000) < 300


def test_a_connection_is_kept_for_the_next_request(address: str) -> None:
    with connected(address) as connection:
        for _ in range(3):
            connection.sendall(GET + b"\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
            time.sleep(0.8)


def test_a_connection_closes_only_after_it_was_idle(tmp_path: Path) -> None:
    app = create_app(settings_of(tmp_path))
    with live(app, http=BoundedConnection, timeout_keep_alive=2) as url, connected(url) as connection:
        for _ in range(6):  # for longer than a connection may be idle
            connection.sendall(GET + b"\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
            time.sleep(0.4)
        assert rest_of(connection) == b""


def test_a_slow_head_gets_no_extra_time_after_another_request(address: str) -> None:
    with connected(address) as connection:
        connection.sendall(GET + b"\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        connection.sendall(GET + b"X-Slow: ")
        assert rest_of(connection).startswith(b"HTTP/1.1 408 ")


def test_an_unread_body_is_not_parsed_as_a_head(address: str) -> None:
    with httpx.Client(base_url=address + PREFIX) as client:
        for _ in range(3):
            answer = client.post("/upload", content=b"x" * 60_000, headers={"Content-Type": "application/json"})
            assert answer.status_code == 401
        body = {"content_type": "video/mp4"}
        assert client.post("/upload", json=body, headers=bearing(token())).status_code == 201


def test_invalid_http_gets_400(address: str) -> None:
    with connected(address) as connection:
        connection.sendall(b"this is no HTTP at all\r\n\r\n")
        assert rest_of(connection).startswith(b"HTTP/1.1 400 ")


def test_pipelined_requests_are_answered_in_order(address: str) -> None:
    with connected(address) as connection:
        last = b"X-Request-ID: two\r\nConnection: close\r\n\r\n"
        connection.sendall(GET + b"X-Request-ID: one\r\n\r\n" + GET + last)
        answers = rest_of(connection)
    assert answers.count(b"HTTP/1.1 200 ") == 2
    assert 0 < answers.index(b"x-request-id: one") < answers.index(b"x-request-id: two")


def test_a_large_head_is_refused_behind_another_request(address: str) -> None:
    with connected(address) as connection:
        connection.sendall(GET + b"\r\n" + GET + b"X-Large: " + b"x" * (MAX_HEAD_BYTES + 1) + b"\r\n\r\n")
        assert rest_of(connection).count(b"HTTP/1.1 200 ") <= 1


def test_a_request_to_close_the_connection_is_answered_and_closed(address: str) -> None:
    with connected(address) as connection:
        connection.sendall(GET + b"Connection: close\r\n\r\n")
        answer = rest_of(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close\r\n" in answer
    assert answer.endswith(b"}")


@pytest.mark.parametrize("sent", [b"", b'{"content_type"'])
def test_a_body_that_does_not_arrive_gets_a_problem(address: str, sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.api.asgi.body.MAX_SECONDS", 0.3)
    authorization = f"Authorization: Bearer {token()}\r\n".encode()
    head = f"POST {PREFIX}/upload HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n".encode()
    with connected(address) as connection:
        connection.sendall(head + authorization + b"Content-Length: 40\r\n\r\n" + sent)
        answer = rest_of(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close\r\n" in answer
    assert b"urn:s3-media:problem:body-too-slow" in answer


def test_a_body_that_ends_after_its_response_gets_no_second_response(address: str) -> None:
    with connected(address) as connection:
        connection.sendall(f"POST {PREFIX}/upload HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\n{{".encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")
        connection.sendall(b"}")
        assert rest_of(connection) == b""


def test_a_body_of_gigabytes_is_not_received_after_its_response(address: str) -> None:
    head = f"POST {PREFIX}/upload HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000000\r\n\r\n".encode()
    with connected(address) as connection:
        connection.sendall(head)
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")
        # The kernel's buffers of both sides hold some megabytes more.
        assert sent_until_closed(connection, b"x" * 65536, times=1000) < 300


def test_a_body_in_pieces_is_joined(address: str) -> None:
    body = b'{"content_type": "video/mp4"}'
    head = f"POST {PREFIX}/upload HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n".encode()
    length = f"Authorization: Bearer {token()}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with connected(address) as connection:
        for piece in (head + length, body[:7], body[7:20], body[20:]):
            connection.sendall(piece)
            time.sleep(0.05)
        assert connection.recv(65536).startswith(b"HTTP/1.1 201 ")


def test_each_pipelined_request_gets_its_own_body(address: str) -> None:
    requests = b""
    for size in (7, 8, 9):
        body = b'{"content_type": "video/mp4", "size": %d}' % size
        requests += f"POST {PREFIX}/upload HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n".encode()
        requests += f"Authorization: Bearer {token()}\r\nContent-Length: {len(body)}\r\n".encode()
        requests += (b"Connection: close\r\n" if size == 9 else b"") + b"\r\n" + body
    with connected(address) as connection:
        connection.sendall(requests)
        answers = rest_of(connection)
    assert re.findall(rb'"max_size":(\d+)', answers) == [b"7", b"8", b"9"]


def test_a_client_that_pipelines_without_end_is_answered_up_to_the_bound(address: str) -> None:
    with connected(address) as connection:
        with suppress(OSError):  # it may be closed before all is sent
            connection.sendall((GET + b"\r\n") * 20 * MAX_WAITING)
        answers, was_reset = rest_and_end_of(connection)
    assert (0 if was_reset else MAX_WAITING) <= answers.count(b"HTTP/1.1 200 ") < 20 * MAX_WAITING
    assert answers.count(b"connection: close") <= 1
    with httpx.Client() as client:
        assert client.get(f"{address}/healthz").status_code == 200


class Transport(asyncio.Transport):
    """Keep what is written, and whether anything is read."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.reads = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent.append(bytes(data))

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        self.sent.append(b"closed")

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default


def connection_to(app: ASGIApp) -> tuple[BoundedConnection, Transport]:
    """Return a connection that is open to `app`, and what it is written to and read from."""
    config = uvicorn.Config(app, log_config=None)
    config.load()
    connection, transport = BoundedConnection(config, ServerState(), app_state={}), Transport()
    connection.connection_made(transport)
    return connection, transport


class OneByOne:
    """Read the body, and answer once the test says so."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Semaphore(0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await self.may_answer.acquire()
        await Document(b"{}")(scope, receive, send)


async def test_reading_pauses_while_pipelined_requests_wait() -> None:
    app = OneByOne()
    connection, transport = connection_to(app)
    connection.data_received((b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n{") * 4)
    reads = []
    for _ in range(4):
        await asyncio.sleep(0.01)
        reads.append(transport.reads)
        app.may_answer.release()
    assert reads == [False, False, False, True]  # only the last one is served while none waits
    await asyncio.sleep(0.01)
    assert b"".join(transport.sent).count(b"HTTP/1.1 200 ") == 4


async def test_a_connection_with_too_many_waiting_requests_closes_after_them() -> None:
    app = OneByOne()
    connection, transport = connection_to(app)
    connection.data_received((GET + b"\r\n") * 3 * MAX_WAITING)
    await asyncio.sleep(0.01)
    assert len(connection.pipeline) == MAX_WAITING
    connection.data_received((GET + b"\r\n") * 3 * MAX_WAITING)
    for _ in range(2 * MAX_WAITING):
        app.may_answer.release()
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    answers = b"".join(transport.sent)
    assert answers.count(b"HTTP/1.1 200 ") == MAX_WAITING + 1
    assert answers.count(b"HTTP/1.1 ") == MAX_WAITING + 1
    assert answers.index(b"connection: close") > answers.rindex(b"HTTP/1.1 200 ")
    assert transport.sent[-1] == b"closed"


async def test_a_header_cannot_hold_a_line_break() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"0"), (b"x-evil", b"a\r\nset-cookie: b")]
        scope["extensions"][AT_ONCE](scope, send, 200, headers, b"")

    connection, transport = connection_to(app)
    connection.data_received(GET + b"\r\n")
    await asyncio.sleep(0.01)
    assert b"evil" not in b"".join(transport.sent)
    assert transport.sent[0].startswith(b"HTTP/1.1 500 ")


async def test_a_client_that_does_not_read_gets_no_more_responses_until_it_reads() -> None:
    connection, transport = connection_to(Document(b"{}"))
    connection.data_received(GET + b"\r\n")
    await asyncio.sleep(0.01)
    assert len(transport.sent) == 1
    connection.pause_writing()  # the transport holds as much as it is to hold
    for _ in range(3):
        connection.data_received(GET + b"\r\n")
        await asyncio.sleep(0.01)
    assert len(transport.sent) == 1
    connection.resume_writing()
    await asyncio.sleep(0.01)
    assert b"".join(transport.sent).count(b"HTTP/1.1 200 ") == 4


@pytest.mark.parametrize(
    "requests",
    [
        GET + b"\r\n",
        GET.replace(b"1.1", b"1.0") + b"\r\n",
        HEAD + b"\r\n",
        HEAD + b"\r\n" + HEAD,
        (GET + b"\r\n") * 3 + GET,
    ],
    ids=["a GET", "of HTTP/1.0", "a HEAD", "a HEAD and half of one", "several GETs and half of one"],
)
@pytest.mark.parametrize("answered", [True, False])
async def test_a_lost_connection_holds_no_reference_to_itself(requests: bytes, answered: bool) -> None:
    connection, transport = connection_to(Document(b"{}"))
    connection.data_received(requests)
    if answered:
        await asyncio.sleep(0.01)
    assert answered == bool(transport.sent)
    connection.connection_lost(None)
    await asyncio.sleep(0.01)
    is_there = weakref.ref(connection)
    gc.disable()
    try:
        del connection
        assert is_there() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(("credentials", "status"), [({}, 401), (bearing(token()), 200)], ids=["a problem", "a page"])
@pytest.mark.parametrize("listens", [False, True])
def test_a_response_is_written_at_once_unless_send_is_wrapped(
    tmp_path: Path, listens: bool, credentials: dict[str, str], status: int
) -> None:
    """Tracing around the application sees each answer, also one that could be sent at once."""
    heard: list[str] = []
    written: list[bool] = []

    class Watched(BoundedConnection):
        def _answer(self, *arguments: Any) -> bool:
            written.append(super()._answer(*arguments))
            return written[-1]

    app = create_app(settings_of(tmp_path))

    async def tracing(scope: Scope, receive: Receive, send: Send) -> None:
        async def hear(message: Message) -> None:
            heard.append(message["type"])
            await send(message)

        await app(scope, receive, hear if listens and scope["type"] == "http" else send)

    with live(tracing, http=Watched) as url:
        assert httpx.get(f"{url}{PREFIX}/", headers=credentials).status_code == status
    assert set(written) == {not listens}
    assert heard == (["http.response.start", "http.response.body"] if listens else [])
