"""The header fields of a request, looked up by name instead of walked through for each that is wanted."""

from starlette.types import Scope

FIELDS = "s3_media.fields"
"""Where a request's scope keeps them, beside the list that they are of: middleware may put another list there."""


def fields_of(scope: Scope) -> dict[bytes, bytes]:
    """Return the fields by their names, in lower case; of one that was sent more than once, the first."""
    sent = scope["headers"]
    known: tuple[object, dict[bytes, bytes]] | None = scope.get(FIELDS)
    if known is not None and known[0] is sent:
        return known[1]
    fields = dict(reversed(sent))
    scope[FIELDS] = (sent, fields)
    return fields


def is_repeated(scope: Scope, name: bytes) -> bool:
    """Tell whether a field was sent more than once."""
    sent = scope["headers"]
    return len(fields_of(scope)) < len(sent) and sum(one == name for one, _ in sent) > 1
