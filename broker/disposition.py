"""The Content-Disposition of a download. Source: RFC 6266 and RFC 8187."""

from urllib.parse import quote


def attachment(filename: str) -> str:
    """Return the header's value: an ASCII fallback, and the whole name percent-encoded."""
    ascii_name = "".join(char if char.isascii() and (char.isalnum() or char in "._- ") else "_" for char in filename)
    return f"attachment; filename=\"{ascii_name}\"; filename*=UTF-8''{quote(filename, safe='')}"
