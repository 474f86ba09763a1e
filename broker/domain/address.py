"""The test for public addresses, for connections to the targets of webhooks."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

NAT64 = IPv6Network("64:ff9b::/96")
"""IPv4 addresses in IPv6 form, by which networks without IPv4 reach public hosts (RFC 6052, section 2.1)."""
UNICAST = IPv6Network("2000::/3")
"""The block from which IANA allocates global unicast; addresses outside it are special, or once were."""
SPECIAL = (IPv4Network("192.0.0.0/24"), IPv6Network("3fff::/20"))
"""Special-purpose blocks that Python 3.11 counts as global: IETF protocol assignments (RFC 6890), documentation
(RFC 9637). Of the first, two anycast addresses are global, but no webhook lives there."""
AZURE_HOST = IPv4Address("168.63.129.16")
"""The host of an Azure machine, though in a public range (Azure's documentation, "What is 168.63.129.16?")."""


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
