"""The table of video types: the usual name of each, its file extensions, and the other names that systems use.

The broker, `broker upload` and the browser helper share it; `make readme` draws the helper's copy.
"""

from types import MappingProxyType
from typing import NamedTuple


class VideoType(NamedTuple):
    """A type by its usual name. The first extension is that of its final keys."""

    name: str
    extensions: tuple[str, ...]
    other_names: tuple[str, ...] = ()


VIDEO_TYPES = (
    VideoType("video/mp4", ("mp4", "f4v"), ("application/mp4", "video/mp4v-es", "video/x-mp4")),
    VideoType("video/webm", ("webm",)),
    VideoType("video/quicktime", ("mov", "qt"), ("video/mov", "video/x-quicktime")),
    VideoType("video/x-matroska", ("mkv",), ("video/matroska", "video/mkv", "video/x-mkv", "application/x-matroska")),
    VideoType(
        "video/mpeg",
        ("mpg", "mpeg", "mpe", "m1v", "m2v", "vob"),
        ("video/mpg", "video/x-mpeg", "video/x-mpeg2", "video/mpeg-system", "video/x-mpeg-system"),
    ),
    VideoType("video/3gpp", ("3gp", "3gpp"), ("video/3gp",)),
    VideoType("video/3gpp2", ("3g2", "3gp2", "3gpp2"), ("video/3g2",)),
    VideoType("video/x-m4v", ("m4v",), ("video/m4v",)),
    VideoType("video/ogg", ("ogv",), ("video/x-ogg",)),
    VideoType(
        "video/x-msvideo",
        ("avi", "divx"),
        ("video/avi", "video/msvideo", "video/vnd.avi", "video/x-avi", "video/divx", "video/vnd.divx"),
    ),
    VideoType(
        "video/mp2t",
        ("ts", "mts", "m2ts", "m2t"),
        ("video/mp2ts", "video/m2ts", "video/vnd.dlna.mpeg-tts", "video/x-mpegts"),
    ),
)
"""The table. Sources: the IANA registry, RFC 4337, RFC 9559, and the aliases of freedesktop.org's shared-mime-info."""

DEFAULT_TYPES = tuple(row.name for row in VIDEO_TYPES)
EXTENSIONS = MappingProxyType({row.name: row.extensions[0] for row in VIDEO_TYPES})
"""The extension of the final key for each type; any other type gets `bin`."""
OTHER_NAMES = MappingProxyType({other: row.name for row in VIDEO_TYPES for other in row.other_names})
"""The usual name for each other name."""
BY_EXTENSION = MappingProxyType({extension: row.name for row in VIDEO_TYPES for extension in row.extensions})
"""The usual name for each file extension."""


def type_of_file(name: str) -> str | None:
    """Return the video type of a file by the extension of its name, or None if the extension is not in the table."""
    return BY_EXTENSION.get(name.rpartition(".")[2].lower())
