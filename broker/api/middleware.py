"""What surrounds every request of the broker's own application: its id, its one line in the log, headers, hosts.

Pure ASGI, so that each costs microseconds. A host application that mounts the router brings its own.
"""

import re
import time
from collections.abc import Sequence
from random import getrandbits
from uuid import UUID

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broker.api.problems import http_problem, internal_problem
from broker.logs import REQUEST_ID, access_log

FOREIGN_ID = re.compile(rb"[A-Za-z0-9._=-]{1,64}")
"""Which ids of others are taken over; anything else gets one of ours."""
PROBES = frozenset({"/healthz", "/readyz"})
"""What a load balancer asks by the address of the process; no host is asked for there."""
SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
PAGE_POLICY = (b"content-security-policy", b"frame-ancestors 'none'; object-src 'none'; base-uri 'none'")
"""What the few pages have instead, which load scripts and styles."""
TRANSPORT_SECURITY = (b"strict-transport-security", b"max-age=31536000")

log = structlog.get_logger()


class RequestLog:
    """Give each request an id, in its answer and in all that is logged meanwhile, and log its end in one line.

    The line names the route, not the path, and no query: those may hold anything. A failure that nobody answered
    is answered and logged here.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(scope)
        sent_id = (b"x-request-id", request_id.encode())
        started_at = time.perf_counter()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), sent_id]
            await send(message)

        bound = REQUEST_ID.set(request_id)
        try:
            await self.app(scope, receive, send_with_id)
        except Exception as error:
            log.exception("request failed", error=type(error).__name__)
            if status:
                raise
            await internal_problem()(scope, receive, send_with_id)
        finally:
            REQUEST_ID.reset(bound)
            client = scope.get("client")
            access_log.request(
                method=scope["method"],
                route=getattr(scope.get("route"), "path", None),
                media_id=_media_id(scope),
                status=status,
                milliseconds=round((time.perf_counter() - started_at) * 1000, 2),
                client=client[0] if client else None,
                request_id=request_id,
            )


class SecurityHeaders:
    """Add the headers that keep browsers from guessing and framing, where an answer has none of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = dict(message.get("headers", ()))
                wanted: tuple[tuple[bytes, bytes], ...] = SECURITY_HEADERS
                if present.get(b"content-type", b"").startswith(b"text/html"):
                    wanted = (*SECURITY_HEADERS[:-1], PAGE_POLICY)
                if scope["scheme"] == "https":
                    wanted = (*wanted, TRANSPORT_SECURITY)
                message["headers"] = [
                    *message.get("headers", ()),
                    *(header for header in wanted if header[0] not in present),
                ]
            await send(message)

        await self.app(scope, receive, send_with_headers)


class AllowedHosts:
    """Refuse a request whose Host is none of ours: exact names, or `*.example.com` for those below one."""

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self.app = app
        self._exact = frozenset(host for host in hosts if not host.startswith("*."))
        self._below = tuple(host.removeprefix("*") for host in hosts if host.startswith("*."))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["path"] not in PROBES and not self._is_ours(scope):
            answer = http_problem(400, "The Host of the request is not one that is served here.")
            await answer(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _is_ours(self, scope: Scope) -> bool:
        named = [value.decode("latin-1").lower() for name, value in scope["headers"] if name == b"host"]
        if len(named) != 1:
            return False
        host = re.sub(r":\d*$", "", named[0])
        return host in self._exact or (bool(self._below) and host.endswith(self._below))


def _media_id(scope: Scope) -> str | None:
    """Return the media's id in the path; anything else that stands there is not logged."""
    named = scope.get("path_params", {}).get("media_id")
    try:
        return str(UUID(str(named))) if named is not None else None
    except ValueError:
        return None


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and FOREIGN_ID.fullmatch(value):
            taken: str = value.decode()
            return taken
    return f"{getrandbits(128):032x}"  # it tells requests apart, and nobody is let in by it
