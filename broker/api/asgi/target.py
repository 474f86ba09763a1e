"""The target of a request: its host, scheme and path, checked before routing, and the origin that links name.

Source: RFC 9112, sections 3.2 ("Request Target") and 3.3 ("Reconstructing the Target URI").
"""

import re
from collections.abc import Sequence

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from broker.api.problems import NO_ROUTE, http_problem, problem_response
from broker.api.state import services
from broker.errors import HostInvalid

PROBES = frozenset({"/healthz", "/readyz"})
"""Paths that load balancers request by the address of the process; the allowed hosts do not apply there."""
SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
"""The scheme of links for each one that a trusted proxy may report."""
_HOST = re.compile(rb"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


class CheckedTarget:
    """Refuse a request whose Host is not valid or not allowed, or whose path is percent-encoded.

    `hosts` are exact names, or `*.example.com` for those below one; with none, every valid Host is served. No path of
    the broker needs encoding, and an encoded one would pass a proxy's rule for the plain one.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self.app = app
        self._exact = frozenset(host for host in hosts if not host.startswith("*."))
        self._below = tuple(host.removeprefix("*") for host in hosts if host.startswith("*."))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            try:
                self._check_host(scope)
            except HostInvalid as error:
                await problem_response(error)(scope, receive, send)
                return
            if b"%" in scope.get("raw_path", b""):
                await http_problem(404, NO_ROUTE)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _check_host(self, scope: Scope) -> None:
        authority = host_of(scope)
        if not (self._exact or self._below) or scope["path"] in PROBES:
            return
        name = re.sub(r":\d+$", "", authority or "").lower()
        if name not in self._exact and not (self._below and name.endswith(self._below)):
            raise HostInvalid(reason="it is not one that is served here")


def host_of(scope: Scope) -> str | None:
    """Return the request's Host, with its port; None for a request of HTTP/1.0 without one. Raises HostInvalid."""
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    if not hosts and scope.get("http_version") == "1.0":
        return None
    if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
        raise HostInvalid(reason="there must be exactly one, a host name or an IP address with an optional port")
    host: bytes = hosts[0]
    return host.decode()


def origin_of(scope: Scope) -> str:
    """Return the origin by which the client reached the server, such as `https://api.example`. Raises HostInvalid."""
    host = host_of(scope) or ":".join(map(str, scope["server"]))
    return f"{SCHEMES.get(scope['scheme'], 'http')}://{host}"


def base_address(request: Request, path_of_route: str) -> str:
    """Return the absolute URL under which clients reach the router of a route with this path, such as `/{media_id}`.

    A client may write an id in another form than the broker does, so the route's path is completed from the request.
    """
    scope = request.scope
    origin = services(request).public_url or origin_of(scope)
    return f"{origin}{scope['path'].removesuffix(path_of_route.format(**request.path_params))}"
