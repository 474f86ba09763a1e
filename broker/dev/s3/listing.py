"""The lists of a bucket's keys and versions, in pages.

Source: Amazon S3 API Reference, "ListObjects", "ListObjectsV2" and "ListObjectVersions".
"""

import base64
from collections.abc import Iterator
from urllib.parse import quote

from starlette.responses import Response

from broker.dev.s3.answers import Content, xml_answer
from broker.dev.s3.clock import iso8601
from broker.dev.s3.errors import invalid_argument
from broker.dev.s3.objects import ObjectVersion
from broker.dev.s3.payload import Payload
from broker.dev.s3.plane import Plane
from broker.dev.s3.request import Request

PAGE_MAX = 1000
_OWNER: tuple[str, Content] = ("Owner", [("ID", "embedded"), ("DisplayName", "embedded")])


class Page:
    """Fill one page of a list with entries and common prefixes."""

    def __init__(self, request: Request) -> None:
        params = request.params
        self.prefix, self.delimiter = params.get("prefix", ""), params.get("delimiter", "")
        self.size_max = _size_max(params.get("max-keys"))
        self._encode = params.get("encoding-type") == "url"
        self.entries: list[tuple[str, Content]] = []
        self.prefixes: list[str] = []
        self.last = ""
        self.truncated = False

    def name(self, text: str) -> str:
        """Write a key as the client asked for it."""
        return quote(text, safe="/") if self._encode else text

    def admits(self, key: str, after: str) -> bool:
        """Take a key into account; False once the page is full. Keys below a common prefix count as one."""
        prefix = self._common_prefix(key)
        if prefix is not None and (
            prefix in self.prefixes or (after and prefix <= after and after.endswith(self.delimiter))
        ):
            return False
        if len(self.entries) + len(self.prefixes) >= self.size_max:
            self.truncated = self.size_max > 0
            return False
        self.last = key if prefix is None else prefix
        if prefix is not None:
            self.prefixes.append(prefix)
            return False
        return True

    def _common_prefix(self, key: str) -> str | None:
        if not self.delimiter:
            return None
        end = key.find(self.delimiter, len(self.prefix))
        return None if end < 0 else key[: end + len(self.delimiter)]

    def head(self, bucket: str) -> list[tuple[str, Content]]:
        """Return the elements that every list begins with."""
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
    page = _objects(plane, request, marker, owner=True)
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
        content.append(("NextContinuationToken", base64.urlsafe_b64encode(page.last.encode()).decode()))
    return xml_answer("ListBucketResult", content + page.tail())


async def list_object_versions(plane: Plane, request: Request, payload: Payload) -> Response:
    """List every version and delete marker, the newest of a key first."""
    plane.services.bucket(request.bucket)
    key_marker = request.params.get("key-marker", "")
    version_marker = request.params.get("version-id-marker", "")
    page = Page(request)
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
            if page.admits(key, key_marker):
                latest = version.sequence == newest
                page.entries.append(_version_entry(page, version, latest=latest))
                next_version = version.version_id
    content = [
        *page.head(request.bucket),
        ("KeyMarker", page.name(key_marker)),
        ("VersionIdMarker", version_marker),
    ]
    if page.truncated:
        content += [("NextKeyMarker", page.name(page.last)), ("NextVersionIdMarker", next_version)]
    return xml_answer("ListVersionsResult", content + page.tail())


def _objects(plane: Plane, request: Request, after: str, *, owner: bool) -> Page:
    plane.services.bucket(request.bucket)
    page = Page(request)
    for version in _current(plane, request.bucket, page.prefix, after):
        if page.admits(version.key, after):
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
    if not text.isdigit():
        raise invalid_argument("Provided max-keys not an integer or within integer range", "max-keys", text)
    return min(int(text), PAGE_MAX)


def _read_token(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token).decode()
    except ValueError:
        raise invalid_argument("The continuation token provided is incorrect", "continuation-token", token) from None
