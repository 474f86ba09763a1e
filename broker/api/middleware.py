"""What surrounds every request of the broker's own application: its id, its one line in the log, headers, hosts.

Pure ASGI, so that each costs microseconds. A host application that mounts the router brings its own.
"""

import re
import time
from collections.abc import Callable, Iterable, Sequence
from random import getrandbits
from uuid import UUID

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broker.api.problems import http_problem, internal_problem
from broker.logs import REQUEST_ID, access_log

WHOLE_ANSWER = "s3_media.whole_answer"
"""The name of an extension of ASGI by which a server offers to send an answer's start and its only body at once."""
Whole = Callable[[Scope, Send, Message, Message], bool]
"""Send both; False: that can not be, and they should be sent one by one, as where somebody listens to what is sent."""
FOREIGN_ID = re.compile(rb"[A-Za-z0-9._=-]{1,64}")
"""Which ids of others are taken over; anything else gets one of ours."""
PROBES = frozenset({"/healthz", "/readyz"})
"""What a load balancer asks by the address of the process; no host is asked for there."""
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
"""What the few pages have instead, which load scripts and styles."""

log = structlog.get_logger()


class Envelope:
    """Give each request an id, each answer that id and the headers that keep browsers from guessing and framing, and
    the log one line.

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
        started_at = time.perf_counter()
        whole: Whole | None = scope.get("extensions", {}).get(WHOLE_ANSWER)
        status = 0
        start: Message = {}

        async def send_in_envelope(message: Message) -> None:
            nonlocal status, start
            if message["type"] == "http.response.start":
                headers = message.get("headers", ())
                sent = [*headers, *_missing(headers, scope), (b"x-request-id", request_id.encode())]
                status, start = message["status"], {**message, "headers": sent}
                return
            if start:
                beginning, start = start, {}
                if whole is not None and not message.get("more_body") and whole(scope, send, beginning, message):
                    return
                await send(beginning)
            await send(message)

        bound = REQUEST_ID.set(request_id)
        try:
            await self.app(scope, receive, send_in_envelope)
        except Exception as error:
            log.exception("request failed", error=type(error).__name__)
            if status and not start:
                raise
            await internal_problem()(scope, receive, send_in_envelope)
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


def _missing(headers: Iterable[tuple[bytes, bytes]], scope: Scope) -> list[tuple[bytes, bytes]]:
    """Return the security headers that an answer does not have of its own."""
    present = dict(headers)
    is_page = present.get(b"content-type", b"").startswith(b"text/html")
    wanted = (PAGE_HEADERS if is_page else DATA_HEADERS)[scope["scheme"] == "https"]
    return [header for header in wanted if header[0] not in present]


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
