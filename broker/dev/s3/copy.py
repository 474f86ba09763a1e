"""CopyObject: atomic, on conditions about the source and about what is replaced.

Source: Amazon S3 API Reference, "CopyObject".
"""

import asyncio
import os
from pathlib import Path
from urllib.parse import unquote_plus

from starlette.responses import Response

from broker.dev.s3 import facts
from broker.dev.s3.answers import Content, xml_answer
from broker.dev.s3.checksums import ALGORITHMS, DEFAULT_ALGORITHM, Digests
from broker.dev.s3.clock import iso8601
from broker.dev.s3.conditional import check_copy_source, check_write
from broker.dev.s3.errors import S3Error, invalid_argument
from broker.dev.s3.objects import ObjectVersion
from broker.dev.s3.payload import Payload
from broker.dev.s3.plane import DeleteMarkerError, Plane, Stored, check_restored
from broker.dev.s3.request import Request
from broker.dev.s3.tagging import read_tagging_header

_CHUNK_BYTES = 1024 * 1024


async def copy_object(plane: Plane, request: Request, payload: Payload) -> Response:
    """Make an object of another one's bytes.

    The bytes of the version whose conditions held are the bytes that are copied, whatever happens to the
    source meanwhile; the conditions on the destination hold at the moment at which it is stored.
    """
    said = request.said
    plane.services.bucket(request.bucket)
    source_bucket, source = find_source(plane, said["x-amz-copy-source"])
    check_copy_source(said, source, plane.clock.now())
    check_write(said, plane.store.current(request.bucket, request.key), request.key)
    replace_metadata = _replaces(said.get("x-amz-metadata-directive", "COPY"), "x-amz-metadata-directive")
    replace_tags = _replaces(said.get("x-amz-tagging-directive", "COPY"), "x-amz-tagging-directive")
    if (source_bucket, source.key) == (request.bucket, request.key) and not (
        replace_metadata or "x-amz-storage-class" in said or "?versionId=" in said["x-amz-copy-source"]
    ):
        raise S3Error(
            "InvalidRequest",
            "This copy request is illegal because it is trying to copy an object to itself without changing "
            "the object's metadata, storage class, website redirect location or encryption attributes.",
        )
    scratch = plane.store.scratch_path()
    os.link(plane.store.path(source_bucket, source), scratch)
    try:
        stored = await _stored(scratch, source, said.get("x-amz-checksum-algorithm"))
        version = plane.put(
            "ObjectCreated:Copy",
            request.bucket,
            request.key,
            stored,
            said,
            headers=facts.object_headers(said) if replace_metadata else source.headers,
            metadata=facts.metadata(said) if replace_metadata else source.metadata,
            tags=read_tagging_header(said.get("x-amz-tagging", "")) if replace_tags else source.tags,
        )
    finally:
        scratch.unlink(missing_ok=True)
    headers = {"x-amz-server-side-encryption": "AES256"}
    if plane.services.versioning(request.bucket) is not None:
        headers["x-amz-version-id"] = version.version_id
    if plane.services.versioning(source_bucket) is not None:
        headers["x-amz-copy-source-version-id"] = source.version_id
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


async def _stored(path: Path, source: ObjectVersion, asked: str | None) -> Stored:
    known = source.checksum_type == "FULL_OBJECT" and "-" not in source.etag
    if known and (asked is None or asked.upper() in source.checksums):
        return Stored(path, source.size, source.etag, source.checksums)
    algorithm = DEFAULT_ALGORITHM if asked is None else asked.upper()
    if algorithm not in ALGORITHMS:
        raise S3Error("InvalidRequest", "Checksum algorithm provided is unsupported.")
    digests = await asyncio.to_thread(_digest, path, algorithm)
    return Stored(path, digests.size, digests.md5.hex(), digests.checksums)


def _digest(path: Path, algorithm: str) -> Digests:
    digests = Digests([algorithm])
    with path.open("rb") as data:
        while chunk := data.read(_CHUNK_BYTES):
            digests.update(chunk)
    return digests


def _replaces(directive: str, header: str) -> bool:
    if directive not in ("COPY", "REPLACE"):
        raise invalid_argument(f"Unknown {header.removeprefix('x-amz-')}.", header, directive)
    return directive == "REPLACE"
