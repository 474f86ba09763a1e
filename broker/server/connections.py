"""What uvicorn's fast protocol lacks: a bound on the head of a request, and what spares a request most of its steps.

Who sends a head slowly, or one that never ends, or asks on and on before anything is answered, holds a connection and
its memory otherwise. A body that has arrived with its head is handed over at once, an answer whose start and body are
there together is written at once, and one timer serves a connection for as long as it lives.
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
"""The request line and all headers together; a token has at most a quarter of it."""
MAX_HEAD_SECONDS = 10.0
"""From the opening of a connection, or a later request's first byte, to the end of the head."""
MAX_WAITING = 100
"""How many requests of one connection may wait behind the one that is served; each takes some kilobytes, whatever it
asks for. A browser lets none wait."""
MAX_UNREAD_BYTES = 256 * 1024
"""How much of a body is still received after its response was sent, so that a client can finish and read it."""
REASONS = {408: b"Request Timeout", 431: b"Request Header Fields Too Large"}


class BoundedConnection(HttpToolsProtocol):
    """Close a connection whose head is too large (431, RFC 6585, section 5) or too slow (408), or that lies idle.

    One on which too many requests wait ends once those are answered; the client asks again for what was not (RFC 9112,
    section 9.3.2).
    """

    max_head_bytes = MAX_HEAD_BYTES
    max_head_seconds = MAX_HEAD_SECONDS
    max_stall_seconds = MAX_STALL_SECONDS

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._ends_at: float | None = None
        """When the connection ends if nothing comes, and with which status, if with one. None: a request is served."""
        self._ends_with: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._head_bytes = 0
        """What came since the last request ended, without what came in one piece with its end."""
        self._piece_bytes = 0
        self._in_body = False
        self._unread_bytes = 0
        self._takes_no_more = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        self._stalls = StallWatch(transport, self.loop, self.max_stall_seconds)
        self._wait(self.max_head_seconds, 408)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._stalls.stop()
        super().connection_lost(exc)
        for cycle in (self.cycle, *(waiting for waiting, _ in self.pipeline)):
            if cycle is not None:
                for name in (AT_ONCE, ARRIVED_BODY):  # they hold this connection, which holds the scope
                    cycle.scope.get("extensions", {}).pop(name, None)

    def data_received(self, data: bytes) -> None:
        """Parse; where no request is being served then, wait for the rest of a head, or of a body that nobody reads."""
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
        """Serve the request, unless its head is too large."""
        self._ends_at = self._ends_with = None
        most = max(self._head_bytes, self._piece_bytes)
        if most > self.max_head_bytes and self._size_of_head() > self.max_head_bytes:
            self._refuse(431)
            raise ValueError  # the parser stops here
        if len(self.pipeline) >= MAX_WAITING:
            self._takes_no_more = True
            self.cycle.keep_alive = False  # of the last one that waits: it is told that the connection ends
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
        """Expect a head next."""
        self._in_body = False
        self._head_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Serve the next request, or wait for one."""
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
        """Serve what is being served, and nothing after it; who waits for news of a media is answered now."""
        super().shutdown()
        if (services := self.app_state.get(STATE_NAME)) is not None:
            services.waiting.end()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, unless the connection was refused already, or takes no more."""
        if not (self.transport.is_closing() or self._takes_no_more):
            super().send_400_response(msg)

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: a client may ask for HTTP/2 or a WebSocket and is served without (RFC 9110, section 7.8)."""

    def _answer(self, scope: Scope, send: Send, status: int, headers: Headers, body: bytes) -> bool:
        """Write a whole answer. False: it is not of the simple kind, of known length and on a connection that stays; or
        what is sent is listened to on its way, as tracing does; or the client has yet to read what was sent before."""
        cycle = self.cycle
        if send != cycle.send or cycle.scope is not scope:
            return False
        if cycle.response_started or cycle.disconnected or not cycle.keep_alive or self.flow.write_paused:
            return False
        if cycle.more_body:
            return False  # the answer may say that the connection ends
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
        del scope["extensions"]  # which hold this connection, as `connection_lost` says
        return True

    def _body(self, receive: Receive) -> bytes | None:
        """Hand a whole body over. None: it is not all there, or what is received is listened to on its way."""
        cycle = self.cycle
        if receive != cycle.receive or cycle.more_body or cycle.waiting_for_100_continue or cycle.disconnected:
            return None
        body, cycle.body = bytes(cycle.body), bytearray()
        cycle.message_event.clear()  # as after the messages, the next one is awaited
        return body

    def _is_serving(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _size_of_head(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _wait(self, seconds: float, status: int | None) -> None:
        """Let the connection end after `seconds`, unless something comes.

        There is one timer, which looks whether the time has come: to set another one for each request takes longer.
        """
        self._ends_at, self._ends_with = self.loop.time() + seconds, status
        if self._timer is None or self._timer_at > self._ends_at:
            self._look_at(self._ends_at)

    def _look_at(self, instant: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = self.loop.call_at(instant, self._look), instant

    def _look(self) -> None:
        self._timer = None
        if self._ends_at is None:
            return
        if self._ends_at > self._timer_at:
            self._look_at(self._ends_at)
        elif self._ends_with is None:
            self.transport.close()
        else:
            self._refuse(self._ends_with)

    def _refuse(self, status: int) -> None:
        self._ends_at = self._ends_with = None
        if self._is_serving() or self._in_body:
            self.transport.close()  # what is answered, or about to be, cannot be answered once more
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
    "proxy_headers": False,  # the broker itself knows which proxies to believe
    "server_header": False,
}
"""How uvicorn serves a broker, on a developer's machine as in production."""


class _Flow(FlowControl):
    """Read no more while requests wait; uvicorn would after each answer, and whenever a body is asked for."""

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        """Read on, unless there is enough to do."""
        if not self._waiting:
            super().resume_reading()
