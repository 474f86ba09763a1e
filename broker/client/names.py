"""The names of files: the content type of their extension, and their text as JSON can carry it."""

import mimetypes
from pathlib import PurePath

from broker.domain.video_types import type_of_file


def content_type_of(name: str) -> str | None:
    """Return the content type for a file name's extension, or None if it is unknown."""
    return type_of_file(name) or mimetypes.types_map.get(PurePath(name).suffix.lower())


def printable(name: str) -> str:
    """Return a file name as valid Unicode; bytes that are not UTF-8 become U+FFFD."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
