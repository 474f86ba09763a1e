"""A request to S3: its bucket and key, headers and parameters."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import unquote_plus, unquote_to_bytes

from starlette.datastructures import Headers
from starlette.requests import Request as HttpRequest

from broker.dev.s3.errors import S3Error
from broker.dev.s3.mail_words import decode_words

_VIRTUAL_HOSTS = (
    re.compile(r"(?P<bucket>.+)\.s3[.-].+"),
    re.compile(r"(?!s3\.)(?P<bucket>.+)\.localhost"),
)
KEY_BYTES_MAX = 1024


@dataclass(slots=True)
class Request:
    """A request before its authentication."""

    http: HttpRequest
    method: str
    host: str
    raw_path: str
    bucket: str
    key: str
    query: list[tuple[str, str]]
    virtual_host: bool
    params: dict[str, str] = field(init=False)
    access_key: str = ""

    def __post_init__(self) -> None:
        self.params = dict(self.query)

    @property
    def headers(self) -> Headers:
        """Return the headers, whose names are case-insensitive."""
        return self.http.headers

    @property
    def fields(self) -> dict[str, str]:
        """Return the headers, and the parameters by which a presigned URL stands in for headers.

        The `x-amz-*` headers are read as UTF-8, and metadata is decoded as RFC 2047 says; other headers are kept
        byte by byte, as ISO-8859-1.
        """
        in_query = {name.lower(): value for name, value in self.query if _stands_for_header(name.lower())}
        return in_query | {name: _decoded(name, value) for name, value in self.headers.items()}

    def raw_header(self, name: str) -> list[bytes]:
        """Return the values of a header as they were sent."""
        return [value.encode("latin-1") for value in self.headers.getlist(name)]

    def body(self) -> AsyncIterator[bytes]:
        """Return the chunks of the body while they arrive."""
        return self.http.stream()

    @property
    def base_url(self) -> str:
        """Return the URL of the bucket, in the style the client uses, without a slash at its end."""
        origin = f"{self.http.url.scheme}://{self.host}"
        return origin if self.virtual_host else f"{origin}/{self.bucket}"

    def content_length(self) -> int:
        """Return the declared size of the body, which S3 requires."""
        if "chunked" in self.headers.get("transfer-encoding", ""):
            raise S3Error("NotImplemented", Header="Transfer-Encoding")
        length = self.headers.get("content-length")
        if length is None:
            raise S3Error("MissingContentLength")
        return int(length)


def read_request(http: HttpRequest) -> Request:
    """Return a request whose bucket is in the host (virtual-host style) or in the path (path style)."""
    host = http.headers.get("host", "")
    raw_path = http.scope["raw_path"].decode("latin-1") or "/"
    try:
        path = unquote_to_bytes(raw_path).decode()
    except UnicodeDecodeError:
        raise S3Error("InvalidURI", URI=raw_path) from None
    name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
    virtual = next((m for pattern in _VIRTUAL_HOSTS if (m := pattern.fullmatch(name))), None)
    if virtual is not None:
        bucket, key = virtual["bucket"], path[1:]
    else:
        bucket, _, key = path[1:].partition("/")
    check_key(key)
    query = [
        (unquote_plus(name), unquote_plus(value))
        for name, _, value in (
            pair.partition("=") for pair in http.scope["query_string"].decode("latin-1").split("&") if pair
        )
    ]
    return Request(http, http.method, host, raw_path, bucket, key, query, virtual is not None)


def _stands_for_header(parameter: str) -> bool:
    return parameter.startswith("x-amz-") or parameter in ("if-match", "if-none-match")


def _decoded(name: str, value: str) -> str:
    if not name.startswith("x-amz-"):
        return value
    try:
        text = value.encode("latin-1").decode()
    except UnicodeDecodeError:
        return value
    return decode_words(text) if name.startswith("x-amz-meta-") else text


def check_key(key: str) -> None:
    """Refuse a key of more than 1,024 bytes, and one whose `..` leaves its first folder.

    Source: Amazon S3 User Guide, "Naming Amazon S3 objects".
    """
    if (size := len(key.encode())) > KEY_BYTES_MAX:
        raise S3Error("KeyTooLongError", Size=size, MaxSizeAllowed=KEY_BYTES_MAX)
    depth = 0
    for part in key.split("/"):
        depth += {"": 0, ".": 0, "..": -1}.get(part, 1)
        if depth < 0:
            raise S3Error("InvalidURI", URI=key)
