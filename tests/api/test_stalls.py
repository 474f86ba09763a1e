"""Clients that do not read their responses, on a real socket."""

import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from broker.api.asgi.document import Document
from broker.server.connections import BoundedConnection
from tests.support.live import live

SIZE = 12_000_000
"""More than the kernel's buffers of both sockets hold."""


class Stalling(BoundedConnection):
    """A connection whose client may stall for two seconds, and which reports its end."""

    max_stall_seconds = 2.0
    lost: threading.Event

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.lost.set()


async def at_once(scope: Scope, receive: Receive, send: Send) -> None:
    """Offer the whole body in one call."""
    if scope["type"] == "http":
        await Document(b"x" * SIZE)(scope, receive, send)


async def in_pieces(scope: Scope, receive: Receive, send: Send) -> None:
    """Send the body in pieces, as a stream does."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % SIZE)]})
        for _ in range(SIZE // 100_000):
            await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture(params=[at_once, in_pieces], ids=["at once", "in pieces"])
def connection(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """Yield a connection on which a large response was requested."""
    app: ASGIApp = request.param
    Stalling.lost = threading.Event()
    with live(app, http=Stalling, timeout_keep_alive=60) as address:
        url = httpx.URL(address)
        with socket.create_connection((url.host, url.port or 80), timeout=10) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
            yield connection


def test_a_client_that_does_not_read_loses_its_connection(connection: socket.socket) -> None:
    assert Stalling.lost.wait(10)


def test_a_client_that_reads_slowly_gets_the_whole_response(connection: socket.socket) -> None:
    size = 0
    began = time.monotonic()
    while size < 2 * SIZE:
        time.sleep(0.1)
        piece = connection.recv(400_000)
        assert piece, "the connection ended"
        size += len(piece)
    assert time.monotonic() - began > 2 * Stalling.max_stall_seconds
    assert not Stalling.lost.is_set()
