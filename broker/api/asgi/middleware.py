"""The middleware of the broker's own application: request ids, the access log, security headers.

Pure ASGI, because Starlette's BaseHTTPMiddleware starts a task for each request. A host application that mounts the
router brings its own middleware.
"""

import asyncio
import re
import time
from functools import lru_cache
from random import getrandbits
from typing import Any
from uuid import UUID

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broker.api.asgi.document import AT_ONCE, AtOnce, Headers
from broker.api.asgi.fields import field_of
from broker.api.problems import internal_problem, stopping_problem
from broker.logs import REQUEST_ID, access_log

FOREIGN_ID = re.compile(rb"[A-Za-z0-9._=-]{1,64}")
"""The request ids that are taken over from a client; a request with any other id gets a new one."""
OWN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""The id of a media in its canonical form."""

TRANSPORT_SECURITY = (b"strict-transport-security", b"max-age=31536000")


def _headers(content_security_policy: bytes) -> tuple[tuple[tuple[bytes, bytes], ...], ...]:
    """Return the security headers over http, and those over https."""
    headers = (
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"content-security-policy", content_security_policy),
    )
    return headers, (*headers, TRANSPORT_SECURITY)


DATA_HEADERS = _headers(b"default-src 'none'; frame-ancestors 'none'")
PAGE_HEADERS = _headers(b"frame-ancestors 'none'; object-src 'none'; base-uri 'none'")
"""The headers of HTML pages, which load scripts and styles."""


class Envelope:
    """Give each request an id, each response that id and the security headers, and the access log one line.

    The line holds the route, not the path or the query, because clients may put secrets there. Unhandled exceptions,
    and requests that a stopping server gives up, are answered here. An exception is then raised again, and the server
    logs it, as every ASGI server does; its line carries the id of the request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(scope, send)
        bound = REQUEST_ID.set(exchange.request_id)
        try:
            await self.app(scope, receive, exchange.send)
        except asyncio.CancelledError:
            # The server is stopping, and its time limit for open requests has passed.
            if exchange.is_under_way():
                raise
            await stopping_problem()(scope, receive, exchange.send)
        except Exception:
            if not exchange.is_under_way():
                await internal_problem()(scope, receive, exchange.send)
            raise
        else:
            REQUEST_ID.reset(bound)  # not after a failure, which the server logs in this same task
        finally:
            exchange.end()


class _Exchange:
    """Hold the id of one request and the state of its response."""

    __slots__ = ("_at_once", "_extensions", "_scope", "_send", "_start", "_started_at", "_status", "request_id")

    def __init__(self, scope: Scope, send: Send) -> None:
        self.request_id = _request_id(scope)
        self._started_at = time.perf_counter()
        self._scope = scope
        self._send = send
        self._status = 0
        self._start: Message | None = None
        self._extensions: dict[str, Any] = scope.get("extensions") or {}
        self._at_once: AtOnce | None = self._extensions.get(AT_ONCE)
        if self._at_once is not None:
            self._extensions[AT_ONCE] = self.take

    async def send(self, message: Message) -> None:
        """Send a message on. The start of a response waits for its body, so that both may be written in one call."""
        if message["type"] == "http.response.start":
            self._status, self._start = message["status"], message
            return
        start, self._start = self._start, None
        if start is not None:
            headers = self._enveloped(start.get("headers", ()))
            if (
                self._at_once is not None
                and not message.get("more_body")
                and self._at_once(self._scope, self._send, start["status"], headers, message.get("body", b""))
            ):
                return
            await self._send({**start, "headers": headers})
        await self._send(message)

    def take(self, scope: Scope, send: Send, status: int, headers: Headers, body: bytes) -> bool:
        """Write a complete response, as the server offers to do, and return whether it was written."""
        if self._at_once is None or self._status or scope is not self._scope or send != self.send:
            return False
        if not self._at_once(scope, self._send, status, self._enveloped(headers), body):
            return False
        self._status = status
        return True

    def is_under_way(self) -> bool:
        """Return whether a part of the response has been sent."""
        return self._status != 0 and self._start is None

    def end(self) -> None:
        """Write the line in the access log."""
        scope = self._scope
        self._extensions.pop(AT_ONCE, None)  # breaks a reference cycle
        client = scope.get("client")
        access_log.request(
            method=scope["method"],
            route=getattr(scope.get("route"), "path", None),
            media_id=_media_id(scope),
            status=self._status,
            milliseconds=round((time.perf_counter() - self._started_at) * 1000, 2),
            client=client[0] if client else None,
            request_id=self.request_id,
        )

    def _enveloped(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        """Return the headers with the request's id, and with the security headers that the response does not set."""
        present = dict(headers)
        missing = _missing(tuple(present), present.get(b"content-type", b""), self._scope["scheme"])
        return [*headers, *missing, (b"x-request-id", self.request_id.encode())]


@lru_cache
def _missing(names: tuple[bytes, ...], content_type: bytes, scheme: str) -> Headers:
    """Return the security headers that are not among `names`."""
    wanted = (PAGE_HEADERS if content_type.startswith(b"text/html") else DATA_HEADERS)[scheme == "https"]
    return [header for header in wanted if header[0] not in names]


def _media_id(scope: Scope) -> str | None:
    """Return the media's id in the path; None for any other text, which is not logged."""
    media_id = scope.get("path_params", {}).get("media_id")
    if media_id is None:
        return None
    try:
        return media_id if OWN_ID.fullmatch(media_id) else str(UUID(str(media_id)))
    except ValueError:
        return None


def _request_id(scope: Scope) -> str:
    given = field_of(scope, b"x-request-id")
    if given is not None and FOREIGN_ID.fullmatch(given):
        return given.decode()
    return f"{getrandbits(128):032x}"  # identifies a request and grants nothing
