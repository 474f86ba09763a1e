"""The Content-Disposition header of a download, safe for any file name that an uploader chose.

Sources: RFC 6266, section 4 and appendix D, RFC 8187, and Microsoft's "Naming Files, Paths, and Namespaces".
"""

import re
from urllib.parse import quote

MAX_NAME_BYTES = 200
"""File systems accept 255 bytes; this leaves room for the number that a browser may add."""

MAX_EXTENSION_BYTES = 16

# Control characters, line separators and unpaired surrogates. Also Unicode's Bidi_Control characters, which could
# display another extension than the name has.
_DROPPED = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_NOT_IN_A_NAME = re.compile(r'[<>:"/\\|?*]')
_NOT_IN_THE_FALLBACK = re.compile(r"[^A-Za-z0-9 ._()-]")


def attachment(filename: str) -> str:
    """Return the header's value in ASCII: the name in RFC 8187 encoding, and a plain fallback for old clients."""
    name = safe_name(filename)
    fallback = _NOT_IN_THE_FALLBACK.sub("_", name)
    return f"attachment; filename=\"{fallback}\"; filename*=UTF-8''{quote(name, safe='')}"


def safe_name(filename: str) -> str:
    """Return a file name that every file system accepts: not empty, and at most MAX_NAME_BYTES of UTF-8."""
    name = _NOT_IN_A_NAME.sub("_", _DROPPED.sub("", filename)).strip(" .")
    if len(name.encode()) > MAX_NAME_BYTES:
        stem, dot, extension = name.rpartition(".")
        if not stem or len(extension.encode()) > MAX_EXTENSION_BYTES:
            stem, dot, extension = name, "", ""
        room = MAX_NAME_BYTES - len((dot + extension).encode())
        name = stem.encode()[:room].decode(errors="ignore").rstrip(" .") + dot + extension
    return name or "download"
