"""What uvicorn's fast protocol lacks: a bound on the head of a request, and an answer that is sent at once.

Who sends a head slowly, or one that never ends, holds a connection and its memory otherwise. And an answer whose start
and body are there together needs none of the steps that a stream of parts takes.
"""

import asyncio
from typing import Any

from starlette.types import Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from broker.api.document import AT_ONCE, Headers

MAX_HEAD_BYTES = 32 * 1024
"""The request line and all headers together; a token has at most a quarter of it."""
MAX_HEAD_SECONDS = 10.0
"""From the opening of a connection, or a later request's first byte, to the end of the head."""
REASONS = {408: b"Request Timeout", 431: b"Request Header Fields Too Large"}


class BoundedConnection(HttpToolsProtocol):
    """Close a connection whose head is too large (431, RFC 6585, section 5) or too slow (408)."""

    max_head_bytes = MAX_HEAD_BYTES
    max_head_seconds = MAX_HEAD_SECONDS

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._deadline: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        """What came since the last request ended, without what came in one piece with its end."""
        self._piece_bytes = 0
        self._in_body = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the deadline."""
        self._end_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; where no request is being served then, wait for the rest of a head, or of a body that nobody reads.

        A head that arrives whole, as most do, needs no deadline.
        """
        self._piece_bytes = len(data)
        self._head_bytes += self._piece_bytes
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._head_bytes > self.max_head_bytes and not self._in_body:
            self._refuse(431)
        elif self._deadline is None and self.timeout_keep_alive_task is None and not self._is_serving():
            self._await_head()

    def on_headers_complete(self) -> None:
        """Serve the request, unless its head is too large."""
        self._end_head()
        self._in_body = True
        most = max(self._head_bytes, self._piece_bytes)
        if most > self.max_head_bytes and self._size_of_head() > self.max_head_bytes:
            self._refuse(431)
            raise ValueError  # the parser stops here
        super().on_headers_complete()
        extensions: dict[str, Any] = {AT_ONCE: self._answer}
        self.scope["extensions"] = extensions

    def on_message_complete(self) -> None:
        """Expect a head next."""
        self._in_body = False
        self._head_bytes = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, unless the connection was refused already."""
        if not self.transport.is_closing():
            super().send_400_response(msg)

    def _answer(self, scope: Scope, send: Send, status: int, headers: Headers, body: bytes) -> bool:
        """Write a whole answer. False: it is not of the simple kind, of known length and on a connection that stays, or
        what is sent is listened to on its way, as tracing does."""
        cycle = self.cycle
        if send != cycle.send or cycle.scope is not scope:
            return False
        if cycle.response_started or cycle.disconnected or not cycle.keep_alive:
            return False
        if (b"content-length", b"%d" % len(body)) not in headers or scope["method"] == "HEAD":
            return False
        lines = [*map(b": ".join, cycle.default_headers), *map(b": ".join, headers)]
        head = b"\r\n".join(lines)
        if not head.count(b"\r") == head.count(b"\n") == len(lines) - 1:
            raise ValueError("a header holds the end of a line")
        cycle.response_started = cycle.response_complete = True
        self.transport.write(b"".join((STATUS_LINE[status], head, b"\r\n\r\n", body)))
        cycle.message_event.set()
        cycle.on_response()
        del scope["extensions"]  # which hold this connection, which holds the scope
        return True

    def _is_serving(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _size_of_head(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _await_head(self) -> None:
        self._deadline = self.loop.call_later(self.max_head_seconds, self._refuse, 408)

    def _end_head(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, status: int) -> None:
        self._end_head()
        if self._is_serving():
            self.transport.close()  # the answer that is under way can not be followed by another
        if not self.transport.is_closing():
            line = b"HTTP/1.1 %d %s\r\n" % (status, REASONS[status])
            self.transport.write(line + b"content-length: 0\r\nconnection: close\r\n\r\n")
            self.transport.close()
