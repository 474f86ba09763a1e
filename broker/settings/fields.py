"""The types and checks that several settings share."""

from importlib.util import find_spec
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode

from broker.domain.origin import origin


def split_at_commas(value: object) -> object:
    """Return the parts of a text; anything else as it is."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_at_commas)]


Positive = Annotated[int, Field(ge=1)]


def exact_origins(value: tuple[str, ...]) -> tuple[str, ...]:
    """Return `value` if each is an exact origin. Raises ValueError, which says what should be."""
    for one in value:
        if origin(one) != one:
            raise ValueError("should be exact origins, such as https://app.example, without a path or *")
    return value


def require_extra(extra: str, *, package: str) -> None:
    """Return if `package`, which `extra` installs, is there; it is not loaded. Raises ValueError, which says how to
    install it."""
    if find_spec(package) is None:
        raise ValueError(f"needs the package {package}; run `pip install 's3-media-broker[{extra}]'`")


def bare_address(value: str | None) -> str | None:
    """Return an address without a trailing slash. Raises ValueError where it has a query or is no address."""
    if value is not None and (origin(value) is None or urlsplit(value).query or urlsplit(value).fragment):
        raise ValueError("should be an http or https address, such as https://api.example")
    return value.rstrip("/") if value else None
