"""The egress proxy of a network, and the hosts that are reached without it.

Source: curl's documentation of HTTPS_PROXY and NO_PROXY, which most programs follow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from broker.domain.origin import LOOPBACK_HOSTS


@dataclass(frozen=True, slots=True)
class EgressProxy:
    """A proxy for requests to https addresses. `direct` are host names, domains, addresses, networks, or `*`."""

    url: str
    direct: Sequence[str] = ()

    def serves(self, host: str) -> bool:
        """Return whether requests to a host go through the proxy. Those to this machine never do."""
        host = host.lower().strip("[]")
        return host not in LOOPBACK_HOSTS and not any(_names(entry, host) for entry in self.direct)


def is_address(host: str) -> bool:
    """Return whether a host is an address and not a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _names(entry: str, host: str) -> bool:
    """Return whether an entry of NO_PROXY names a host: `example.com` also names the hosts below it."""
    entry = entry.lower()
    try:
        return ip_address(host) in ip_network(entry, strict=False)
    except ValueError:
        domain = entry.lstrip("*").lstrip(".")
        return not domain or host == domain or host.endswith(f".{domain}")
