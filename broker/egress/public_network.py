"""Connections to public addresses, and to the private networks that the operator lists.

A host is resolved once, and the addresses that were checked are used. The target of a hook must not lead to this
machine's services, its neighbors, or the cloud's metadata service.
Source: OWASP, "Server-Side Request Forgery Prevention Cheat Sheet".
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import ip_address

import httpcore
from httpcore import SOCKET_OPTION, AsyncNetworkBackend, AsyncNetworkStream

from broker.domain.origin import LOOPBACK_HOSTS, is_public, network_of

Lookup = Callable[[str, int], Awaitable[list[str]]]


class AddressRefused(httpcore.ConnectError):
    """The host has an address that is neither public nor in a listed network."""


async def look_up(host: str, port: int) -> list[str]:
    """Return the addresses of a host, in the order in which they should be tried."""
    entries = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in entries]


class PublicNetwork(AsyncNetworkBackend):
    """A network backend that connects to public addresses, and to those in the networks of `private`.

    With `loopback` it also connects to this machine, for development.
    """

    def __init__(
        self,
        *,
        loopback: bool = False,
        private: Sequence[str] = (),
        look_up: Lookup = look_up,
        network: AsyncNetworkBackend | None = None,
    ) -> None:
        self._loopback = loopback
        self._private = [network_of(each) for each in private]
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
        """Connect to one of the host's addresses. Raises AddressRefused if any is not allowed, and ConnectError."""
        try:
            addresses = await self._look_up(host, port)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"the host cannot be resolved: {type(error).__name__}") from error
        if not (self._loopback and host in LOOPBACK_HOSTS) and not all(map(self.allows, addresses)):
            raise AddressRefused("the host has an address that is not public")
        failure: Exception = httpcore.ConnectError("the host has no address")
        for address in addresses:
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    def allows(self, address: str) -> bool:
        """Return whether an address is public, or in a listed network."""
        return is_public(address) or any(ip_address(address) in network for network in self._private)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> AsyncNetworkStream:
        """Raise AddressRefused, because a socket of this machine is not public."""
        raise AddressRefused("a Unix socket is not public")

    async def sleep(self, seconds: float) -> None:
        """Sleep between attempts."""
        await asyncio.sleep(seconds)
