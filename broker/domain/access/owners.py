"""The names of owners: the subjects of tokens, or users on whose behalf a backend issues."""

MAX_OWNER_LENGTH = 255


def is_owner(name: object) -> bool:
    """Return whether `name` is a text of 1 to 255 printable characters without surrounding spaces."""
    return isinstance(name, str) and 1 <= len(name) <= MAX_OWNER_LENGTH and name.isprintable() and name == name.strip()
