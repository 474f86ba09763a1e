"""The header fields of a request, by name: a route wants half a dozen of them, and each time would walk through all."""

from starlette.types import Scope

FIELDS = "s3_media.fields"
"""Where a request's scope keeps them for the route that serves it, and for nobody before it."""


def index_fields(scope: Scope) -> None:
    """Prepare for `field_of`."""
    scope[FIELDS] = first_fields(scope)


def first_fields(scope: Scope) -> dict[bytes, bytes]:
    """Return the fields by their names, in lower case; of one that was sent more than once, the first."""
    return dict(reversed(scope["headers"]))


def field_of(scope: Scope, name: bytes) -> bytes | None:
    """Return what a field says; of one that was sent more than once, the first. None: it was not sent."""
    said: bytes | None = scope[FIELDS].get(name)
    return said


def is_repeated(scope: Scope, name: bytes) -> bool:
    """Tell whether a field was sent more than once."""
    sent = scope["headers"]
    return len(scope[FIELDS]) < len(sent) and sum(one == name for one, _ in sent) > 1
