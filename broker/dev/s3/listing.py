"""The lists of a bucket's keys and versions, in pages.

Source: Amazon S3 API Reference, "ListObjects", "ListObjectsV2" and "ListObjectVersions".
"""

import base64
import re
from collections.abc import Iterator
from hashlib import sha256
from urllib.parse import quote

from starlette.responses import Response

from broker.dev.s3.answers import Content, xml_answer
from broker.dev.s3.clock import iso8601
from broker.dev.s3.errors import S3Error, invalid_argument
from broker.dev.s3.objects import ObjectVersion
from broker.dev.s3.payload import Payload
from broker.dev.s3.plane import Plane
from broker.dev.s3.request import Request

PAGE_MAX = 1000
INTEGER_MAX = 2**31 - 1
_PROOF_BYTES = 6
_OWNER: tuple[str, Content] = ("Owner", [("ID", "embedded"), ("DisplayName", "embedded")])


class Page:
    """One page of a list: its entries and common prefixes."""

    def __init__(self, request: Request) -> None:
        params = request.params
        self.prefix, self.delimiter = params.get("prefix", ""), params.get("delimiter", "")
        self.size_max = _size_max(params.get("max-keys"))
        self._encode = _encodes(params.get("encoding-type"))
        self.entries: list[tuple[str, Content]] = []
        self.prefixes: list[str] = []
        self.last = ""
        self.truncated = False

    def name(self, text: str) -> str:
        """Return a key in the encoding that the client requested."""
        return quote(text, safe="/") if self._encode else text

    def admits(self, key: str, after: str) -> bool:
        """Return whether a key becomes an entry of its own, and count it. Keys below a common prefix count as one.

        The prefix that `after` is, or ends at, was on an earlier page.
        """
        prefix = self._common_prefix(key)
        if prefix is not None and (prefix in self.prefixes or prefix == after):
            return False
        if len(self.entries) + len(self.prefixes) >= self.size_max:
            self.truncated = self.size_max > 0
            return False
        self.last = key if prefix is None else prefix
        if prefix is not None:
            self.prefixes.append(prefix)
            return False
        return True

    def prefix_of_marker(self, marker: str) -> str:
        """Return the common prefix that contains a marker, or else the marker. The list omits that prefix."""
        inside = marker.startswith(self.prefix) and self._common_prefix(marker)
        return inside or marker

    def _common_prefix(self, key: str) -> str | None:
        if not self.delimiter:
            return None
        end = key.find(self.delimiter, len(self.prefix))
        return None if end < 0 else key[: end + len(self.delimiter)]

    def head(self, bucket: str) -> list[tuple[str, Content]]:
        """Return the first elements of every list."""
        head: list[tuple[str, Content]] = [
            ("Name", bucket),
            ("Prefix", self.name(self.prefix)),
            ("MaxKeys", self.size_max),
            ("IsTruncated", self.truncated),
        ]
        if self.delimiter:
            head.append(("Delimiter", self.name(self.delimiter)))
        if self._encode:
            head.append(("EncodingType", "url"))
        return head

    def tail(self) -> list[tuple[str, Content]]:
        """Return the entries, then the common prefixes."""
        return self.entries + [("CommonPrefixes", [("Prefix", self.name(prefix))]) for prefix in self.prefixes]


async def list_objects(plane: Plane, request: Request, payload: Payload) -> Response:
    """List the objects after a marker."""
    marker = request.params.get("marker", "")
    page = _objects(plane, request, marker, owner=True, from_marker=True)
    content = [*page.head(request.bucket), ("Marker", page.name(marker))]
    if page.truncated and page.delimiter:
        content.append(("NextMarker", page.name(page.last)))
    return xml_answer("ListBucketResult", content + page.tail())


async def list_objects_v2(plane: Plane, request: Request, payload: Payload) -> Response:
    """List the objects, page by page with a token."""
    params = request.params
    token = params.get("continuation-token")
    after = params.get("start-after", "") if token is None else _read_token(token)
    page = _objects(plane, request, after, owner=params.get("fetch-owner") == "true")
    content = [
        *page.head(request.bucket),
        ("KeyCount", len(page.entries) + len(page.prefixes)),
    ]
    if token is not None:
        content.append(("ContinuationToken", token))
    if "start-after" in params:
        content.append(("StartAfter", page.name(params["start-after"])))
    if page.truncated:
        content.append(("NextContinuationToken", _token(page.last)))
    return xml_answer("ListBucketResult", content + page.tail())


async def list_object_versions(plane: Plane, request: Request, payload: Payload) -> Response:
    """List every version and delete marker, the newest of a key first."""
    plane.services.bucket(request.bucket)
    key_marker = request.params.get("key-marker", "")
    version_marker = request.params.get("version-id-marker", "")
    if version_marker and not key_marker:
        raise invalid_argument(
            "A version-id marker cannot be specified without a key marker.", "version-id-marker", version_marker
        )
    page = Page(request)
    after = page.prefix_of_marker(key_marker)
    next_version = ""
    for key in plane.store.keys(request.bucket):
        if not key.startswith(page.prefix) or key < key_marker or (key == key_marker and not version_marker):
            continue
        versions = plane.store.versions(request.bucket, key)
        newest = versions[0].sequence
        if key == key_marker:
            ids = [version.version_id for version in versions]
            versions = versions[ids.index(version_marker) + 1 :] if version_marker in ids else []
        for version in versions:
            if page.admits(key, after):
                latest = version.sequence == newest
                page.entries.append(_version_entry(page, version, latest=latest))
                next_version = version.version_id
            elif page.last != key and not page.truncated:
                next_version = ""
    content = [
        *page.head(request.bucket),
        ("KeyMarker", page.name(key_marker)),
        ("VersionIdMarker", version_marker),
    ]
    if page.truncated:
        content.append(("NextKeyMarker", page.name(page.last)))
        if next_version:
            content.append(("NextVersionIdMarker", next_version))
    return xml_answer("ListVersionsResult", content + page.tail())


def _objects(plane: Plane, request: Request, after: str, *, owner: bool, from_marker: bool = False) -> Page:
    plane.services.bucket(request.bucket)
    page = Page(request)
    listed = page.prefix_of_marker(after) if from_marker else after
    for version in _current(plane, request.bucket, page.prefix, after):
        if page.admits(version.key, listed):
            entry = _facts(page, version) + ([_OWNER] if owner else [])
            page.entries.append(("Contents", entry))
        elif page.truncated:
            break
    return page


def _current(plane: Plane, bucket: str, prefix: str, after: str) -> Iterator[ObjectVersion]:
    for key in plane.store.keys(bucket):
        if key.startswith(prefix) and key > after:
            version = plane.store.current(bucket, key)
            if version is not None:
                yield version


def _facts(page: Page, version: ObjectVersion) -> list[tuple[str, Content]]:
    facts: list[tuple[str, Content]] = [
        ("Key", page.name(version.key)),
        ("LastModified", iso8601(version.modified)),
        ("ETag", f'"{version.etag}"'),
        ("Size", version.size),
        ("StorageClass", version.storage_class),
        ("ChecksumType", version.checksum_type),
    ]
    return facts + [("ChecksumAlgorithm", name) for name in version.checksums]


def _version_entry(page: Page, version: ObjectVersion, *, latest: bool) -> tuple[str, Content]:
    identity: list[tuple[str, Content]] = [
        ("VersionId", version.version_id),
        ("IsLatest", latest),
        _OWNER,
    ]
    if version.delete_marker:
        key: tuple[str, Content] = ("Key", page.name(version.key))
        return "DeleteMarker", [key, ("LastModified", iso8601(version.modified)), *identity]
    return "Version", [*_facts(page, version), *identity]


def _size_max(text: str | None) -> int:
    if text is None:
        return PAGE_MAX
    if not re.fullmatch(r"[0-9]{1,10}", text) or int(text) > INTEGER_MAX:
        raise invalid_argument("Provided max-keys not an integer or within integer range", "max-keys", text)
    return min(int(text), PAGE_MAX)


def _encodes(encoding_type: str | None) -> bool:
    if encoding_type not in (None, "url"):
        raise invalid_argument("Invalid Encoding Method specified in Request", "encoding-type", encoding_type)
    return encoding_type == "url"


def _token(key: str) -> str:
    """Return an opaque token for the list after a key."""
    data = key.encode()
    return base64.urlsafe_b64encode(_proof(data) + data).decode()


def _read_token(token: str) -> str:
    """Return the key of a token that `_token` made, or refuse the token."""
    try:
        data = base64.b64decode(token, altchars=b"-_", validate=True)
        if _proof(data[_PROOF_BYTES:]) == data[:_PROOF_BYTES]:
            return data[_PROOF_BYTES:].decode()
    except ValueError:
        pass
    raise S3Error("InvalidArgument", "The continuation token provided is incorrect", ArgumentName="continuation-token")


def _proof(data: bytes) -> bytes:
    return sha256(data).digest()[:_PROOF_BYTES]
