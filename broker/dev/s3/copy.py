"""CopyObject: atomic, with conditions on its source and on the object that it replaces.

Source: Amazon S3 API Reference, "CopyObject".
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote_plus

from starlette.responses import Response

from broker.dev.s3 import facts
from broker.dev.s3.answers import Content, xml_answer
from broker.dev.s3.checksums import DEFAULT_ALGORITHM, FULL_OBJECT, Digests, supported
from broker.dev.s3.clock import iso8601
from broker.dev.s3.composed import link, open_range
from broker.dev.s3.conditional import check_copy_source, check_write
from broker.dev.s3.errors import S3Error, invalid_argument
from broker.dev.s3.objects import NULL_VERSION, ObjectVersion
from broker.dev.s3.payload import Payload
from broker.dev.s3.plane import OBJECT_BYTES_MAX, DeleteMarkerError, Plane, Stored, check_restored
from broker.dev.s3.request import Request
from broker.dev.s3.tagging import read_tagging_header

_CHUNK_BYTES = 1024 * 1024


async def copy_object(plane: Plane, request: Request, payload: Payload) -> Response:
    """Store a copy of an object.

    The copied bytes are those of the version whose conditions held, even if the source changes meanwhile. The
    conditions on the destination hold when the copy is stored.
    """
    fields = request.fields
    plane.services.bucket(request.bucket)
    source_bucket, source = find_source(plane, fields["x-amz-copy-source"])
    check_copy_source(fields, source, plane.clock.now())
    check_whole_source(source.size)
    check_write(fields, plane.store.current(request.bucket, request.key), request.key)
    replace_metadata = _replaces(fields.get("x-amz-metadata-directive", "COPY"), "x-amz-metadata-directive")
    replace_tags = _replaces(fields.get("x-amz-tagging-directive", "COPY"), "x-amz-tagging-directive")
    if (source_bucket, source.key) == (request.bucket, request.key) and not (
        replace_metadata or "x-amz-storage-class" in fields or "?versionId=" in fields["x-amz-copy-source"]
    ):
        raise S3Error(
            "InvalidRequest",
            "This copy request is illegal because it is trying to copy an object to itself without changing "
            "the object's metadata, storage class, website redirect location or encryption attributes.",
        )
    with linked(plane, source_bucket, source) as path:
        requested = fields.get("x-amz-checksum-algorithm")
        algorithm = supported(requested) if requested else next(iter(source.checksums), DEFAULT_ALGORITHM)
        etag, checksums = await content_digests(path, source, algorithm)
        version = plane.put(
            "ObjectCreated:Copy",
            request.bucket,
            request.key,
            Stored(path, source.size, etag, checksums),
            fields,
            headers=facts.object_headers(fields) if replace_metadata else source.headers,
            metadata=facts.metadata(fields) if replace_metadata else source.metadata,
            tags=read_tagging_header(fields.get("x-amz-tagging", "")) if replace_tags else source.tags,
        )
    headers = facts.encryption_headers(version.headers) | source_version_header(plane, source_bucket, source)
    if version.version_id != NULL_VERSION:
        headers["x-amz-version-id"] = version.version_id
    content: list[tuple[str, Content]] = [
        ("LastModified", iso8601(version.modified)),
        ("ETag", f'"{version.etag}"'),
        ("ChecksumType", version.checksum_type),
    ]
    content += [(f"Checksum{name}", value) for name, value in version.checksums.items()]
    return xml_answer("CopyObjectResult", content, headers=headers)


def find_source(plane: Plane, copy_source: str) -> tuple[str, ObjectVersion]:
    """Return the bucket and the version that an `x-amz-copy-source` names; a plus sign in it is a space."""
    path, _, version_id = copy_source.partition("?versionId=")
    bucket, _, key = unquote_plus(path).removeprefix("/").partition("/")
    if not key:
        raise invalid_argument("Invalid copy source object key", "x-amz-copy-source", "x-amz-copy-source")
    try:
        version = plane.find(bucket, key, version_id or None)
    except DeleteMarkerError:
        raise S3Error(
            "InvalidRequest",
            "The source of a copy request may not specifically refer to a delete marker by version id.",
        ) from None
    check_restored(version, "Operation is not valid for the source object's storage class")
    return bucket, version


def check_whole_source(size: int) -> None:
    """Refuse the copy of a whole source of more than 5 GiB. A larger one is copied by ranges, as parts."""
    if size > OBJECT_BYTES_MAX:
        raise S3Error(
            "InvalidRequest",
            "The specified copy source is larger than the maximum allowable size for a copy source: "
            f"{OBJECT_BYTES_MAX}",
        )


@contextmanager
def linked(plane: Plane, bucket: str, source: ObjectVersion) -> Iterator[Path]:
    """Give the bytes of a version a second name, removed at the end, so that they outlast a change of the source."""
    with plane.store.scratch() as path:
        link(plane.store.path(bucket, source), path)
        yield path


async def content_digests(path: Path, source: ObjectVersion, algorithm: str) -> tuple[str, dict[str, str]]:
    """Return the MD5 (hex) and the checksum of a version's bytes; they are read only if these are not known."""
    is_md5 = "-" not in source.etag and not facts.has_opaque_etag(source.headers)
    if is_md5 and source.checksum_type == FULL_OBJECT and algorithm in source.checksums:
        return source.etag, source.checksums
    digests = await asyncio.to_thread(_digest, path, source.size, algorithm)
    return digests.md5.hex(), digests.checksums


def source_version_header(plane: Plane, bucket: str, source: ObjectVersion) -> dict[str, str]:
    """Return the header that names the copied version, if its bucket keeps versions."""
    if plane.services.versioning(bucket) is None:
        return {}
    return {"x-amz-copy-source-version-id": source.version_id}


def _digest(path: Path, size: int, algorithm: str) -> Digests:
    digests = Digests([algorithm])
    with open_range(path, 0, size) as data:
        while chunk := data.read(_CHUNK_BYTES):
            digests.update(chunk)
    return digests


def _replaces(directive: str, header: str) -> bool:
    if directive not in ("COPY", "REPLACE"):
        raise invalid_argument(f"Unknown {header.removeprefix('x-amz-')}.", header, directive)
    return directive == "REPLACE"
