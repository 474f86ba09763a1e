"""Origins and addresses: the origin of a URL, the hosts of this machine, and public addresses."""

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})
"""The hosts that name this machine."""
_HOST = re.compile(r"[a-z0-9._:-]+")

_PATTERN = re.compile(r"https://\*((?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?){2,}(?::[1-9][0-9]{0,4})?)")
_APP = re.compile(r"([a-z][a-z0-9+.-]*)://[a-z0-9._-]+(:[1-9][0-9]{0,4})?")
_NEVER_PAGES = frozenset({"about", "blob", "data", "file", "ftp", "http", "https", "javascript", "ws", "wss"})
"""Schemes that no app can choose for its pages; the origin of a page of `file:` is `null`."""

NAT64 = IPv6Network("64:ff9b::/96")
"""IPv4 addresses in IPv6 form, by which networks without IPv4 reach public hosts (RFC 6052, section 2.1)."""
UNICAST = IPv6Network("2000::/3")
"""The block from which IANA allocates global unicast; addresses outside it are special, or once were."""
SPECIAL = (IPv4Network("192.0.0.0/24"), IPv6Network("3fff::/20"))
"""Special-purpose blocks that Python 3.11 counts as global: IETF protocol assignments (RFC 6890), documentation
(RFC 9637). Of the first, two anycast addresses are global, but no webhook lives there."""
AZURE_HOST = IPv4Address("168.63.129.16")
"""The host of an Azure machine, though in a public range (Azure's documentation, "What is 168.63.129.16?")."""


def origin(url: str) -> str | None:
    """Return the origin of an http(s) URL, such as `https://app.example`; or None if it has none.

    Source: RFC 6454, section 4.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    host = parts.hostname or ""
    if parts.scheme not in {"http", "https"} or parts.username is not None or not _HOST.fullmatch(host):
        return None
    default = {"http": 80, "https": 443}[parts.scheme]
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in {None, default} else "")


def is_app_origin(value: str) -> bool:
    """Return whether a value is the origin of a hybrid app's pages, such as `capacitor://localhost`.

    Sources: the documentation of Capacitor, Ionic, Tauri and Electron on custom schemes.
    """
    match = _APP.fullmatch(value)
    return match is not None and match[1] not in _NEVER_PAGES


def is_origin_pattern(value: str) -> bool:
    """Return whether a value is `https://*.` and a domain of at least two labels, with an optional port."""
    return _PATTERN.fullmatch(value) is not None and origin(example_of(value)) == example_of(value)


def expression_of(pattern: str) -> str:
    """Return a regular expression for the origins of a pattern; its `*` stands for exactly one label."""
    return re.escape(pattern).replace(r"\*", "[a-z0-9](?:[a-z0-9-]*[a-z0-9])?", 1)


def example_of(pattern: str) -> str:
    """Return one origin of a pattern; an exact origin is returned unchanged."""
    return pattern.replace("*", "example", 1)


def is_loopback(url: str) -> bool:
    """Return whether the host of a URL is a name of this machine. Raises ValueError for a malformed URL."""
    return urlsplit(url).hostname in LOOPBACK_HOSTS


def is_public(address: str) -> bool:
    """Return whether this is a unicast address of the public internet.

    An IPv6 address that embeds an IPv4 address is judged by that one, or refused if it belongs to a tunnel. Sources:
    IANA IPv4 and IPv6 Special-Purpose Address Registries.
    """
    ip: IPv4Address | IPv6Address = ip_address(address)
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif ip in NAT64:
            ip = IPv4Address(int(ip) & 0xFFFFFFFF)
        elif ip not in UNICAST or ip.sixtofour is not None or ip.teredo is not None:
            return False
    if ip == AZURE_HOST or any(ip in block for block in SPECIAL):
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved)


def network_of(value: str) -> IPv4Network | IPv6Network:
    """Return the network that a value names; a single address is one of its own. Raises ValueError.

    IPv4 addresses in IPv6 form (`::ffff:10.0.0.0/104`), as a dual-stack socket shows them, are the IPv4 network.
    """
    network = ip_network(value)
    if isinstance(network, IPv6Network) and (mapped := network.network_address.ipv4_mapped) is not None:
        return IPv4Network((mapped, max(network.prefixlen - 96, 0)))
    return network


def bare(url: str) -> str:
    """Return a URL without its user, password and query; it may name several hosts."""
    parts = urlsplit(re.sub(r"//.*@", "//", url))  # a password may hold characters that a URL may not
    return f"{parts.scheme}://{parts.netloc}{parts.path}"
