"""The header fields of a request, as ASGI holds them: names in lower case, in the order of arrival."""

from starlette.types import Scope


def field_of(scope: Scope, name: bytes) -> bytes | None:
    """Return the value of a field, the first one if it is repeated, or None if it is absent."""
    for field, value in scope["headers"]:
        if field == name:
            return bytes(value)
    return None


def is_repeated(scope: Scope, name: bytes) -> bool:
    """Return whether a field was sent more than once."""
    return [field for field, _ in scope["headers"]].count(name) > 1
