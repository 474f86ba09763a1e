"""Multipart uploads: create, upload and copy parts, abort.

Source: Amazon S3 User Guide, "Uploading and copying objects using multipart upload"; Amazon S3 API Reference,
"CreateMultipartUpload", "UploadPart", "UploadPartCopy" and "AbortMultipartUpload".
"""

import asyncio
import re
import secrets
from pathlib import Path
from typing import BinaryIO

from starlette.responses import Response

from broker.dev.s3 import facts
from broker.dev.s3.answers import Content, xml_answer
from broker.dev.s3.checksums import HEADER_PREFIX, TYPE_HEADER, header_name
from broker.dev.s3.clock import iso8601
from broker.dev.s3.conditional import check_copy_source
from broker.dev.s3.copy import check_whole_source, content_digests, find_source, linked, source_version_header
from broker.dev.s3.errors import S3Error, invalid_argument
from broker.dev.s3.multipart_checksums import part_algorithm, requested_checksum
from broker.dev.s3.object_write import receive
from broker.dev.s3.objects import Incoming
from broker.dev.s3.parts import Part, Upload, no_such_upload, part_number
from broker.dev.s3.payload import Payload
from broker.dev.s3.plane import OBJECT_BYTES_MAX, Plane
from broker.dev.s3.request import Request
from broker.dev.s3.tagging import read_tagging_header

_CHUNK_BYTES = 1024 * 1024
_RANGE_HEADER = "x-amz-copy-source-range"
_INITIATED_HEADER = "x-amz-if-match-initiated-time"


async def create(plane: Plane, request: Request, payload: Payload) -> Response:
    """Begin an upload."""
    plane.services.bucket(request.bucket)
    request_headers = request.fields
    facts.check(request_headers)
    plane.check_acl(request.bucket, request_headers)
    algorithm, checksum_type = requested_checksum(request_headers)
    latest = plane.store.latest(request.bucket, request.key)
    upload = Upload(
        id=secrets.token_urlsafe(96),
        bucket=request.bucket,
        key=request.key,
        sequence=plane.store.next_sequence(),
        started_at=iso8601(plane.clock.now()),
        headers=facts.object_headers(request_headers),
        metadata=facts.metadata(request_headers),
        storage_class=request_headers.get("x-amz-storage-class", "STANDARD"),
        tags=read_tagging_header(request_headers.get("x-amz-tagging", "")),
        named_algorithm=algorithm,
        checksum_type=checksum_type,
        replaces=0 if latest is None else latest.sequence,
    )
    plane.uploads.begin(upload)
    content: list[tuple[str, Content]] = [
        ("Bucket", upload.bucket),
        ("Key", upload.key),
        ("UploadId", upload.id),
    ]
    headers = facts.encryption_headers(upload.headers)
    if algorithm:
        headers |= {HEADER_PREFIX + "algorithm": algorithm, TYPE_HEADER: checksum_type}
    return xml_answer("InitiateMultipartUploadResult", content, headers=headers)


async def upload_part(plane: Plane, request: Request, payload: Payload) -> Response:
    """Store the body as a part."""
    upload, number = plane.find_upload(request), part_number(request.params)
    algorithm = part_algorithm(upload, request.fields)
    with plane.store.incoming(algorithm, upload.algorithm) as incoming:
        await receive(request, payload, incoming)
        digests = incoming.digests
        part = await _keep(plane, upload, number, incoming.path, digests.size, digests.md5.hex(), digests.checksums)
    headers = facts.encryption_headers(upload.headers)
    headers |= {"etag": f'"{part.etag}"', header_name(algorithm): digests.checksums[algorithm]}
    return Response(b"", 200, headers)


async def upload_part_copy(plane: Plane, request: Request, payload: Payload) -> Response:
    """Store an object, or a range of it, as a part."""
    upload, number = plane.find_upload(request), part_number(request.params)
    request_headers = request.fields
    bucket, source = find_source(plane, request_headers["x-amz-copy-source"])
    check_copy_source(request_headers, source, plane.clock.now())
    first, size = copied_range(request_headers.get(_RANGE_HEADER), source.size)
    if size == source.size:
        with linked(plane, bucket, source) as path:
            etag, checksums = await content_digests(path, source, upload.algorithm)
            part = await _keep(plane, upload, number, path, size, etag, checksums)
    else:
        with plane.store.open(bucket, source, first, size) as data, plane.store.incoming(upload.algorithm) as incoming:
            await asyncio.to_thread(_copy, data, size, incoming)
            digests = incoming.digests
            part = await _keep(plane, upload, number, incoming.path, size, digests.md5.hex(), digests.checksums)
    content: list[tuple[str, Content]] = [("LastModified", part.modified_at), ("ETag", f'"{part.etag}"')]
    if upload.named_algorithm:
        content.append((f"Checksum{upload.algorithm}", part.checksum))
    headers = facts.encryption_headers(upload.headers) | source_version_header(plane, bucket, source)
    return xml_answer("CopyPartResult", content, headers=headers)


async def abort(plane: Plane, request: Request, payload: Payload) -> Response:
    """Abort an upload and remove its parts."""
    upload = plane.find_upload(request)
    if _INITIATED_HEADER in request.fields:
        # Source: API Reference, "AbortMultipartUpload": directory buckets alone have this condition.
        raise S3Error("NotImplemented", Header=_INITIATED_HEADER)
    async with upload.lock:
        if upload not in plane.uploads:
            raise no_such_upload(upload.id)
        plane.uploads.remove(upload)
    return Response(b"", 204)


def copied_range(header: str | None, size: int) -> tuple[int, int]:
    """Return the offset and the size of the bytes that UploadPartCopy copies: of a range, or of the whole source."""
    if header is None:
        check_whole_source(size)
        return 0, size
    match = re.fullmatch(r"bytes=([0-9]{1,18})-([0-9]{1,18})", header)
    if match is None or int(match[1]) > int(match[2]):
        raise invalid_argument(
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the "
            "zero-based offsets of the first and last bytes to copy",
            _RANGE_HEADER,
            header,
        )
    first, last = int(match[1]), int(match[2])
    if first >= size:
        raise S3Error("InvalidRequest", "The specified copy range is invalid for the source object size")
    if last >= size:
        raise invalid_argument(f"Range specified is not valid for source object of size: {size}", _RANGE_HEADER, header)
    if last - first >= OBJECT_BYTES_MAX:
        raise S3Error("EntityTooLarge", ProposedSize=last - first + 1, MaxSizeAllowed=OBJECT_BYTES_MAX)
    return first, last - first + 1


async def _keep(
    plane: Plane, upload: Upload, number: int, path: Path, size: int, etag: str, checksums: dict[str, str]
) -> Part:
    async with upload.lock:
        if upload not in plane.uploads:
            # It was completed or aborted while the bytes arrived: the part would never be removed.
            raise no_such_upload(upload.id)
        return plane.uploads.add_part(
            upload,
            path,
            number=number,
            size=size,
            etag=etag,
            checksum=checksums[upload.algorithm],
            modified_at=iso8601(plane.clock.now()),
        )


def _copy(data: BinaryIO, size: int, incoming: Incoming) -> None:
    while size > 0 and (chunk := data.read(min(_CHUNK_BYTES, size))):
        incoming.write(chunk)
        size -= len(chunk)
    incoming.close()
