"""Metadata values in headers: RFC 2047's encoded words, in the form that S3 gives them.

S3 decodes encoded words that a header brings, and encodes values that are not plain ASCII. Most of a value being
ASCII decides for the Q encoding, otherwise it is B.
Source: Amazon S3 User Guide, "Working with object metadata", section "User-defined object metadata".
"""

import base64
from email.errors import HeaderParseError
from email.header import decode_header

_Q_ESCAPED = frozenset(b"=?_")


def encode_words(value: str) -> str:
    """Return a value as a header may carry it."""
    special = sum(1 for letter in value if letter > "~" or (letter < " " and letter != "\t"))
    if not special:
        return value
    data = value.encode()
    if len(value) - special > special:
        return f"=?UTF-8?Q?{''.join(_q_encode(byte) for byte in data)}?="
    return f"=?UTF-8?B?{base64.b64encode(data).decode()}?="


def decode_words(value: str) -> str:
    """Return a header's value with its encoded words decoded; a malformed one stays as it is."""
    if "=?" not in value:
        return value
    try:
        return "".join(
            part if isinstance(part, str) else part.decode(charset or "ascii") for part, charset in decode_header(value)
        )
    except (HeaderParseError, LookupError, ValueError):
        return value


def _q_encode(byte: int) -> str:
    if byte == ord(" "):
        return "_"
    return chr(byte) if 33 <= byte <= 126 and byte not in _Q_ESCAPED else f"={byte:02X}"
