"""The client and the scheme of a request that came through proxies, as trusted proxies report them.

Sources: RFC 7239 (`Forwarded`); MDN, "X-Forwarded-For", "Selecting an IP address", and "X-Forwarded-Proto".
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal, NamedTuple

from starlette.types import ASGIApp, Receive, Scope, Send

from broker.domain.origin import network_of

ProxyHeaders = Literal["either", "x-forwarded", "forwarded"]
"""The headers that the proxies set. With `either`, `Forwarded` counts only in a request without `X-Forwarded-…`."""
SCHEMES = frozenset({"http", "https", "ws", "wss"})
MAX_HOPS = 32
"""How many addresses of a header are looked at, from its end. No deployment has as many proxies."""
_PAIR = re.compile(r'\s*+(?:([A-Za-z0-9!#$%&\'*+.^_`|~-]++)=("(?:[^"\\]|\\.)*"|[^\s",;]*+))?\s*+([;,]|$)')
"""A pair and its end. The possessive quantifiers keep the time linear: 8,000 spaces took two seconds."""
_NODE = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::\d+)?|([0-9.]+)(?::\d+)?|([0-9A-Fa-f:.]+)")


class Hop(NamedTuple):
    """One step of a request: the address that sent it, and the scheme that it used, if they are reported."""

    node: str
    scheme: str = ""


class Proxied:
    """Set the client and the scheme of requests that come from the trusted addresses and networks.

    The client is the last address that is not trusted, because each proxy appends the address that it saw. An IPv4
    address in IPv6 form, as a dual-stack socket reports it, counts as the IPv4 address.
    """

    def __init__(self, app: ASGIApp, trusted: Sequence[str], headers: ProxyHeaders = "either") -> None:
        self.app = app
        self._networks = [network_of(each) for each in trusted]
        self._headers = headers
        self._is_trusted = lru_cache(maxsize=4096)(self._look_up)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        client = scope.get("client")
        if scope["type"] != "lifespan" and client and self._is_trusted(client[0]):
            self._set(scope, client)
        await self.app(scope, receive, send)

    def _set(self, scope: Scope, client: tuple[str, int]) -> None:
        hops, scheme = self._reported(scope)
        origin = next((hop for hop in reversed(hops) if not self._is_trusted(hop.node)), hops[0] if hops else None)
        address = address_of(origin.node) if origin is not None else None
        scope["client"] = (client[0] if address is None else str(address), client[1] if address is None else 0)
        scheme = scheme or (origin.scheme if origin is not None else "")
        if scheme in SCHEMES:
            scope["scheme"] = scheme.replace("http", "ws") if scope["type"] == "websocket" else scheme

    def _reported(self, scope: Scope) -> tuple[list[Hop], str]:
        """Return the reported hops, the proxy's own last, and a scheme that is reported for all of them."""
        values: dict[bytes, list[str]] = {b"x-forwarded-for": [], b"x-forwarded-proto": [], b"forwarded": []}
        for name, value in scope["headers"]:
            if name in values:
                values[name].append(value.decode("latin-1"))
        common = values[b"x-forwarded-for"] or values[b"x-forwarded-proto"]
        if self._headers == "forwarded" or (self._headers == "either" and not common):
            return forwarded_hops(",".join(values[b"forwarded"]))[-MAX_HOPS:], ""
        nodes = ",".join(values[b"x-forwarded-for"]).split(",")[-MAX_HOPS:]
        scheme = values[b"x-forwarded-proto"][-1].strip().lower() if values[b"x-forwarded-proto"] else ""
        return [Hop(node.strip()) for node in nodes if node.strip()], scheme

    def _look_up(self, node: str) -> bool:
        address = address_of(node)
        return address is not None and any(address in network for network in self._networks)


def forwarded_hops(header: str) -> list[Hop]:
    """Return the hops of a `Forwarded` header, or none if it is malformed (RFC 7239, section 4).

    A pair may be empty, also behind the last `;`. An empty element of the list is no hop (RFC 9110, section 5.6.1.2).
    """
    hops, pairs, position = [], dict[str, str](), 0
    while position < len(header):
        match = _PAIR.match(header, position)
        if match is None or match.end() == position:
            return []
        name, value, end = match.groups()
        if name is not None:
            unquoted = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
            pairs[name.lower()] = unquoted
        position = match.end()
        if pairs and (end != ";" or position == len(header)):
            hops.append(Hop(pairs.get("for", ""), pairs.get("proto", "").lower()))
            pairs = {}
    return hops


def address_of(node: str) -> IPv4Address | IPv6Address | None:
    """Return the address of a node with an optional port, or None for a name, `unknown` and the like.

    An IPv6 address with a port is in brackets (RFC 7239, section 6).
    """
    match = _NODE.fullmatch(node.partition("%")[0])
    try:
        address = ip_address(next(filter(None, match.groups()))) if match else None
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
