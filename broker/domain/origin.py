"""URLs: their origin, and whether they stay on this machine."""

import re
from urllib.parse import urlsplit

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})
"""The hosts that name this machine."""
_HOST = re.compile(r"[a-z0-9._:-]+")


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


def is_loopback(url: str) -> bool:
    """Return whether the host of a URL is a name of this machine. Raises ValueError for a malformed URL."""
    return urlsplit(url).hostname in LOOPBACK_HOSTS
