"""Types and checks that several settings share."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated
from urllib.parse import quote, urlsplit

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode

from broker.domain.origin import is_app_origin, is_origin_pattern, network_of, origin


def split_at_commas(value: object) -> object:
    """Return the comma-separated parts of a text; any other value is returned unchanged."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_at_commas)]


Positive = Annotated[int, Field(ge=1)]


def exact_origins(value: tuple[str, ...]) -> tuple[str, ...]:
    """Return `value` if each part is an exact origin. Raises ValueError with the expected form."""
    for part in value:
        if origin(part) != part:
            raise ValueError("should be exact origins, such as https://app.example, without a path or *")
    return value


def page_origins(value: tuple[str, ...]) -> tuple[str, ...]:
    """Return `value` if each part names origins of pages. Raises ValueError with the expected forms."""
    for part in value:
        if origin(part) != part and not is_app_origin(part) and not is_origin_pattern(part):
            raise ValueError(
                "should be exact origins, such as https://app.example, without a path or *; "
                "origins of apps, such as capacitor://localhost; or patterns, such as https://*.preview.example"
            )
    return value


def require_extra(extra: str, *, package: str) -> None:
    """Raise ValueError, with the command that installs it, unless `package` of the extra is installed."""
    if find_spec(package) is None:
        raise ValueError(f"needs the package {package}; run `pip install 's3-media-broker[{extra}]'`")


def can_be_sent(url: str) -> bool:
    """Return whether a request can carry a URL: other characters are percent-encoded (RFC 3986, section 2)."""
    return url.isascii() and url.isprintable() and " " not in url


def bare_address(value: str | None) -> str | None:
    """Return a URL without a trailing slash, or None if it is empty.

    Raises ValueError if it is not an http(s) URL that a request can carry, or has a query or fragment.
    """
    if value is None:
        return None
    is_bare = origin(value) is not None and not urlsplit(value).query and not urlsplit(value).fragment
    if not is_bare or not can_be_sent(value):
        raise ValueError("should be an http or https address, such as https://api.example")
    return value.rstrip("/") if value else None


def pem_text(pem_or_path: str) -> str:
    """Return a PEM text, in which `\\n` may stand for line breaks, or the text of a file. Raises OSError."""
    return pem_or_path.replace("\\n", "\n") if "-----BEGIN" in pem_or_path else Path(pem_or_path).read_text()


def password_in(url: str) -> str:
    """Return the password in a URL as written, or an empty text. It may hold any character, and the user a `/`."""
    match = re.match(r"[^:/]+://[^:@]*:(.*)@", url)
    return match[1] if match else ""


def with_quoted_user(url: str) -> str:
    """Return a URL that can be split: the characters of its user and password that prevent it are percent-encoded.

    Both end at the last `@`. A `%` in them begins an encoded character, so a literal one is written `%25`.
    """
    scheme, _, rest = url.partition("://")
    user, at, place = rest.rpartition("@")
    if not at:
        return url
    try:
        is_split_there = urlsplit(url).netloc.startswith(f"{user}@")
        urlsplit(url).port  # noqa: B018 raises ValueError
    except ValueError:
        is_split_there = False
    return url if is_split_there else f"{scheme}://{quote(user, safe='%:')}@{place}"


def networks(value: tuple[str, ...]) -> tuple[str, ...]:
    """Return `value` if each part is an address or a network, and none is all of them. Raises ValueError."""
    for part in value:
        try:
            network = network_of(part)
            is_any = network.prefixlen == 0 or (network.num_addresses == 1 and network.network_address.is_unspecified)
        except ValueError:
            is_any = True
        if is_any:
            raise ValueError("should be addresses or networks, such as 10.0.0.7,10.1.0.0/16, and not all of them")
    return value
