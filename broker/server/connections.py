"""Bounded and faster connections on uvicorn's httptools protocol.

Without the bounds, a client that sends headers slowly or endlessly, or pipelines without reading, could hold a
connection and its memory. A connection also hands over a body that arrived with its headers, writes a complete response
in one call, and keeps one timer for its lifetime.
"""

import asyncio
from collections.abc import Sized
from typing import Any

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from broker.api.asgi.body import ARRIVED_BODY
from broker.api.asgi.document import AT_ONCE, Headers
from broker.api.state import STATE_NAME
from broker.server.stalls import MAX_STALL_SECONDS, StallWatch

MAX_HEAD_BYTES = 32 * 1024
"""The request line and all headers together. A token takes at most a quarter of it."""
MAX_HEAD_SECONDS = 10.0
"""From the opening of a connection, or the first byte of a later request, to the end of the headers."""
MAX_WAITING = 100
"""How many pipelined requests of one connection may wait behind the current one. Each holds a few kilobytes. Browsers
do not pipeline."""
MAX_UNREAD_BYTES = 256 * 1024
"""How much of a body is still received after its response was sent, so that a client can finish and read it."""
REASONS = {408: b"Request Timeout", 431: b"Request Header Fields Too Large"}


class BoundedConnection(HttpToolsProtocol):
    """Close a connection whose headers are too large (431, RFC 6585, section 5) or too slow (408), or that is idle.

    A connection with too many pipelined requests closes once those are answered. The client retries the others (RFC
    9112, section 9.3.2).
    """

    max_head_bytes = MAX_HEAD_BYTES
    max_head_seconds = MAX_HEAD_SECONDS
    max_stall_seconds = MAX_STALL_SECONDS

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._ends_at: float | None = None
        """When the connection closes unless data arrives; None while a request is served."""
        self._ends_with: int | None = None
        """The status sent before that, or None to close silently."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._head_bytes = 0
        """Bytes received since the last request ended, not counting the piece that contained its end."""
        self._piece_bytes = 0
        self._in_body = False
        self._unread_bytes = 0
        self._takes_no_more = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        self._stalls = StallWatch(transport, self.loop, self.max_stall_seconds)
        self._wait(self.max_head_seconds, 408)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timer, and break the reference cycles of requests that are still open."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._stalls.stop()
        super().connection_lost(exc)
        for cycle in (self.cycle, *(waiting for waiting, _ in self.pipeline)):
            if cycle is not None:
                for name in (AT_ONCE, ARRIVED_BODY):  # they refer to this connection, which refers to the scope
                    cycle.scope.get("extensions", {}).pop(name, None)

    def data_received(self, data: bytes) -> None:
        """Parse. If no request is being served, wait for the rest of the headers, or of an unread body."""
        if self._takes_no_more:
            return
        if self._ends_with is None:
            self._ends_at = None
        self._piece_bytes = len(data)
        self._head_bytes += self._piece_bytes
        super().data_received(data)
        if self.transport.is_closing() or self._takes_no_more:
            return
        if self._head_bytes > self.max_head_bytes and not self._in_body:
            self._refuse(431)
        elif self._ends_at is None and not self._is_serving():
            self._wait(self.max_head_seconds, 408)

    def on_headers_complete(self) -> None:
        """Serve the request, unless its headers are too large."""
        self._ends_at = self._ends_with = None
        received = max(self._head_bytes, self._piece_bytes)
        if received > self.max_head_bytes and self._size_of_head() > self.max_head_bytes:
            self._refuse(431)
            raise ValueError  # stops the parser
        if len(self.pipeline) >= MAX_WAITING:
            self._takes_no_more = True
            self.cycle.keep_alive = False  # the response to the last waiting request says that the connection closes
            raise ValueError
        self._in_body = True
        self._unread_bytes = 0
        super().on_headers_complete()
        extensions: dict[str, Any] = {AT_ONCE: self._answer, ARRIVED_BODY: self._body}
        self.scope["extensions"] = extensions

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body for the request, or close the connection if too much comes after its response."""
        super().on_body(body)
        if self.cycle.response_complete:
            self._unread_bytes += len(body)
            if self._unread_bytes > MAX_UNREAD_BYTES:
                self.transport.close()

    def on_message_complete(self) -> None:
        """Expect headers next."""
        self._in_body = False
        self._head_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Serve the next request, or wait for it."""
        self._stalls.start()
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self._wait(self.timeout_keep_alive, None)

    def pause_writing(self) -> None:
        """Wait until the client has read, but not for one that never reads."""
        super().pause_writing()
        self._stalls.start()

    def shutdown(self) -> None:
        """Finish the current request and take no other; answer clients that wait for a media to settle."""
        super().shutdown()
        if (services := self.app_state.get(STATE_NAME)) is not None:
            services.waiting.end()

    def send_400_response(self, msg: str) -> None:
        """Refuse a request that is not valid HTTP, unless the connection is closing or takes no more requests."""
        if not (self.transport.is_closing() or self._takes_no_more):
            super().send_400_response(msg)

    def _unsupported_upgrade_warning(self) -> None:
        """Log nothing: a client may offer HTTP/2 or a WebSocket and is served without it (RFC 9110, section 7.8)."""

    def _answer(self, scope: Scope, send: Send, status: int, headers: Headers, body: bytes) -> bool:
        """Write a complete response and return True.

        Return False, having written nothing, if its length is unknown, the connection is closing, something wraps
        `send` (as tracing does), or the client is not keeping up.
        """
        cycle = self.cycle
        if send != cycle.send or cycle.scope is not scope:
            return False
        if cycle.response_started or cycle.disconnected or not cycle.keep_alive or self.flow.write_paused:
            return False
        if cycle.more_body:
            return False  # the response may have to say that the connection closes
        if (b"content-length", b"%d" % len(body)) not in headers or scope["method"] == "HEAD":
            return False
        lines = [*map(b": ".join, cycle.default_headers), *map(b": ".join, headers)]
        head = b"\r\n".join(lines)
        if not head.count(b"\r") == head.count(b"\n") == len(lines) - 1:
            raise ValueError("a header contains a line break")
        cycle.response_started = cycle.response_complete = True
        self.transport.write(b"".join((STATUS_LINE[status], head, b"\r\n\r\n", body)))
        cycle.message_event.set()
        cycle.on_response()
        del scope["extensions"]  # a reference cycle, as in `connection_lost`
        return True

    def _body(self, receive: Receive) -> bytes | None:
        """Return the body, or None if more of it is expected or something wraps `receive`."""
        cycle = self.cycle
        if receive != cycle.receive or cycle.more_body or cycle.waiting_for_100_continue or cycle.disconnected:
            return None
        body, cycle.body = bytes(cycle.body), bytearray()
        cycle.message_event.clear()  # as uvicorn does after the last message of a body
        return body

    def _is_serving(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _size_of_head(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _wait(self, seconds: float, status: int | None) -> None:
        """Close the connection after `seconds`, unless data arrives.

        The one timer moves itself on when it fires early, so that a request does not set and cancel timers.
        """
        self._ends_at, self._ends_with = self.loop.time() + seconds, status
        if self._timer is None or self._timer_at > self._ends_at:
            self._set_timer(self._ends_at)

    def _set_timer(self, instant: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = self.loop.call_at(instant, self._on_timer), instant

    def _on_timer(self) -> None:
        self._timer = None
        if self._ends_at is None:
            return
        if self._ends_at > self._timer_at:
            self._set_timer(self._ends_at)
        elif self._ends_with is None:
            self.transport.close()
        else:
            self._refuse(self._ends_with)

    def _refuse(self, status: int) -> None:
        self._ends_at = self._ends_with = None
        if self._is_serving() or self._in_body:
            self.transport.close()  # a response has started, or is about to; too late for an error response
        if not self.transport.is_closing():
            line = b"HTTP/1.1 %d %s\r\n" % (status, REASONS[status])
            self.transport.write(line + b"content-length: 0\r\nconnection: close\r\n\r\n")
            self.transport.close()


SERVING: dict[str, Any] = {
    "http": BoundedConnection,
    "ws": "none",
    "lifespan": "on",
    "log_config": None,
    "access_log": False,
    "proxy_headers": False,  # the broker's own middleware knows the trusted proxies
    "server_header": False,
    # uvicorn replaces a process that does not answer in 5 seconds; on a slow machine each start takes longer.
    "timeout_worker_healthcheck": 30,
}
"""The options of uvicorn for a broker, in development and in production alike."""


class _Flow(FlowControl):
    """Stop reading while pipelined requests wait. uvicorn would resume after each response and each read of a body."""

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        """Resume reading, unless requests wait."""
        if not self._waiting:
            super().resume_reading()
