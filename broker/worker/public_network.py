"""Connections to public addresses alone: a name is looked up once, checked, and what was checked is connected to.

Whoever names a webhook must not reach what only this machine reaches: its own services, its neighbours, the cloud's
metadata. Source: OWASP, "Server-Side Request Forgery Prevention Cheat Sheet".
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import httpcore
from httpcore import SOCKET_OPTION, AsyncNetworkBackend, AsyncNetworkStream

from broker.domain.origin import LOOPBACK_HOSTS

NAT64 = IPv6Network("64:ff9b::/96")
"""RFC 6052, section 2.1: an IPv4 address in IPv6's clothes, as networks without IPv4 see public hosts."""
UNICAST = IPv6Network("2000::/3")
"""All that IANA gives out as global unicast; what lies outside is special, or was, as site-local addresses."""
AZURE_HOST = IPv4Address("168.63.129.16")
"""Public by its number, but on Azure each machine's own host (Azure's documentation, "What is 168.63.129.16?")."""

Lookup = Callable[[str, int], Awaitable[list[str]]]


class AddressRefused(httpcore.ConnectError):
    """The name leads to an address that is not public."""


def is_public(address: str) -> bool:
    """Tell whether this is a unicast address of the public internet.

    An IPv6 address that carries an IPv4 one is judged by that, or refused where tunnels make it. Sources: IANA IPv4 and
    IPv6 Special-Purpose Address Registries.
    """
    found: IPv4Address | IPv6Address = ip_address(address)
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        elif found in NAT64:
            found = IPv4Address(int(found) & 0xFFFFFFFF)
        elif found not in UNICAST or found.sixtofour is not None or found.teredo is not None:
            return False
    return found != AZURE_HOST and found.is_global and not (found.is_multicast or found.is_reserved)


async def look_up(host: str, port: int) -> list[str]:
    """Return the addresses of a host, in the order in which they should be tried."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class PublicNetwork(AsyncNetworkBackend):
    """Connect to public addresses; with `loopback` also to this machine under its own names, for development."""

    def __init__(
        self, *, loopback: bool = False, look_up: Lookup = look_up, network: AsyncNetworkBackend | None = None
    ) -> None:
        self._loopback = loopback
        self._look_up = look_up
        self._network = network or httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> AsyncNetworkStream:
        """Connect to one of the host's addresses. Raises AddressRefused if any is not public, and ConnectError."""
        try:
            addresses = await self._look_up(host, port)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"the name cannot be looked up: {type(error).__name__}") from error
        if not (self._loopback and host in LOOPBACK_HOSTS) and not all(map(is_public, addresses)):
            raise AddressRefused("the name leads to an address that is not public")
        failure: Exception = httpcore.ConnectError("the name has no address")
        for address in addresses:
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> AsyncNetworkStream:
        """Refuse: a socket of this machine is not public."""
        raise AddressRefused("a Unix socket is not public")

    async def sleep(self, seconds: float) -> None:
        """Rest between attempts."""
        await asyncio.sleep(seconds)
