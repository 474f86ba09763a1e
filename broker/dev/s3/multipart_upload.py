"""Multipart uploads: begin, upload and copy parts, complete, abort.

Source: Amazon S3 User Guide, "Uploading and copying objects using multipart upload".
"""

import asyncio
import hashlib
import secrets
from pathlib import Path

from starlette.responses import Response

from broker.dev.s3 import facts
from broker.dev.s3.answers import Content, xml_answer
from broker.dev.s3.checksums import HEADER_PREFIX, composite, header_name
from broker.dev.s3.clock import iso8601
from broker.dev.s3.conditional import check_copy_source, check_write
from broker.dev.s3.copy import find_source
from broker.dev.s3.documents import children, parse_xml, text
from broker.dev.s3.errors import S3Error, invalid_argument
from broker.dev.s3.object_read import requested_range
from broker.dev.s3.object_write import asked_algorithm, receive
from broker.dev.s3.objects import Incoming, ObjectVersion
from broker.dev.s3.parts import Part, Upload
from broker.dev.s3.payload import Payload
from broker.dev.s3.plane import Plane, Stored
from broker.dev.s3.request import Request
from broker.dev.s3.tagging import read_tagging_header

PART_BYTES_MIN = 5 * 1024**2
PART_NUMBER_MAX = 10_000
_CHUNK_BYTES = 1024 * 1024


async def create(plane: Plane, request: Request, payload: Payload) -> Response:
    """Begin an upload."""
    plane.services.bucket(request.bucket)
    said = request.said
    facts.check(said)
    algorithm = asked_algorithm(said)
    default_type = "FULL_OBJECT" if algorithm == "CRC64NVME" else "COMPOSITE"
    upload = Upload(
        id=secrets.token_urlsafe(48),
        bucket=request.bucket,
        key=request.key,
        said=said,
        tags=read_tagging_header(said.get("x-amz-tagging", "")),
        algorithm=algorithm,
        asked_for="x-amz-checksum-algorithm" in said,
        checksum_type=said.get(HEADER_PREFIX + "type", default_type).upper(),
        started_at=iso8601(plane.clock.now()),
    )
    if upload.checksum_type == "FULL_OBJECT" and algorithm.startswith("SHA"):
        raise S3Error(
            "InvalidRequest",
            f"The FULL_OBJECT checksum type cannot be used with the {algorithm.lower()} checksum algorithm.",
        )
    plane.uploads[upload.id] = upload
    content: list[tuple[str, Content]] = [
        ("Bucket", upload.bucket),
        ("Key", upload.key),
        ("UploadId", upload.id),
    ]
    headers = {HEADER_PREFIX + "algorithm": algorithm, HEADER_PREFIX + "type": upload.checksum_type}
    return xml_answer("InitiateMultipartUploadResult", content, headers=headers)


async def upload_part(plane: Plane, request: Request, payload: Payload) -> Response:
    """Store the body as a part."""
    upload, number = plane.find_upload(request), _part_number(request)
    algorithm = asked_algorithm(request.said, default=upload.algorithm)
    if upload.asked_for and algorithm != upload.algorithm:
        raise S3Error(
            "InvalidRequest",
            f"Checksum Type mismatch occurred, expected checksum Type: {upload.algorithm.lower()}, "
            f"actual checksum Type: {algorithm.lower()}",
        )
    with plane.store.incoming(algorithm, upload.algorithm) as incoming:
        await receive(request, payload, incoming)
        part = _keep(plane, upload, number, incoming)
    headers = {"etag": f'"{part.etag}"', header_name(algorithm): incoming.digests.checksums[algorithm]}
    return Response(b"", 200, headers)


async def upload_part_copy(plane: Plane, request: Request, payload: Payload) -> Response:
    """Store an object, or a range of it, as a part."""
    upload, number = plane.find_upload(request), _part_number(request)
    said = request.said
    bucket, source = find_source(plane, said["x-amz-copy-source"])
    check_copy_source(said, source, plane.clock.now())
    span = requested_range(said.get("x-amz-copy-source-range"), source.size)
    first, last = span or (0, source.size - 1)
    with plane.store.incoming(upload.algorithm) as incoming:
        with plane.store.open(bucket, source) as data:
            data.seek(first)
            remaining = last - first + 1
            while remaining > 0 and (chunk := data.read(min(_CHUNK_BYTES, remaining))):
                await asyncio.to_thread(incoming.write, chunk)
                remaining -= len(chunk)
        incoming.close()
        part = _keep(plane, upload, number, incoming)
    content: list[tuple[str, Content]] = [("LastModified", part.modified_at), ("ETag", f'"{part.etag}"')]
    return xml_answer("CopyPartResult", [*content, (f"Checksum{upload.algorithm}", part.checksum)])


async def complete(plane: Plane, request: Request, payload: Payload) -> Response:
    """Make an object of the listed parts."""
    upload = plane.find_upload(request)
    parts = _listed_parts(upload, await payload.read())
    check_write(request.headers, plane.store.current(request.bucket, request.key), request.key)
    if plane.uploads.pop(upload.id, None) is None:
        raise S3Error("NoSuchUpload", UploadId=upload.id)
    try:
        version = await _joined(plane, request, upload, parts)
    except BaseException:
        plane.uploads[upload.id] = upload
        raise
    upload.discard()
    content: list[tuple[str, Content]] = [
        ("Location", f"{request.base_url}/{upload.key}"),
        ("Bucket", upload.bucket),
        ("Key", upload.key),
        ("ETag", f'"{version.etag}"'),
        ("ChecksumType", version.checksum_type),
        *((f"Checksum{name}", value) for name, value in version.checksums.items()),
    ]
    versioned = plane.services.versioning(upload.bucket) is not None
    return xml_answer(
        "CompleteMultipartUploadResult",
        content,
        headers={"x-amz-version-id": version.version_id} if versioned else {},
    )


async def abort(plane: Plane, request: Request, payload: Payload) -> Response:
    """Give an upload up and remove its parts."""
    upload = plane.find_upload(request)
    del plane.uploads[upload.id]
    upload.discard()
    return Response(b"", 204)


async def _joined(plane: Plane, request: Request, upload: Upload, parts: list[Part]) -> ObjectVersion:
    """Store the parts as one object; the upload must be out of everybody else's reach."""
    full = upload.checksum_type == "FULL_OBJECT"
    with plane.store.incoming(*([upload.algorithm] if full else [])) as incoming:
        await asyncio.to_thread(_join, incoming, [part.path for part in parts])
        incoming.close()
        md5s = hashlib.md5(b"".join(bytes.fromhex(part.etag) for part in parts), usedforsecurity=False)
        checksums = (
            incoming.digests.checksums
            if full
            else {upload.algorithm: composite(upload.algorithm, (part.checksum for part in parts))}
        )
        claimed = request.headers.get(header_name(upload.algorithm))
        if claimed is not None and claimed != checksums[upload.algorithm]:
            raise S3Error("BadDigest", f"The {upload.algorithm} you specified did not match the calculated checksum.")
        stored = Stored(
            incoming.path,
            incoming.digests.size,
            f"{md5s.hexdigest()}-{len(parts)}",
            checksums,
            upload.checksum_type,
        )
        preconditions = {name: v for name, v in request.headers.items() if name.startswith("if-")}
        return plane.put(
            "ObjectCreated:CompleteMultipartUpload",
            upload.bucket,
            upload.key,
            stored,
            upload.said | preconditions,
            tags=upload.tags,
        )


def _part_number(request: Request) -> int:
    number = request.params.get("partNumber", "")
    if not number.isdigit() or not 1 <= int(number) <= PART_NUMBER_MAX:
        raise invalid_argument(
            f"Part number must be an integer between 1 and {PART_NUMBER_MAX}, inclusive", "partNumber", number
        )
    return int(number)


def _keep(plane: Plane, upload: Upload, number: int, incoming: Incoming) -> Part:
    if plane.uploads.get(upload.id) is not upload:
        # It ended while the bytes came: nobody would ever remove them.
        raise S3Error("NoSuchUpload", UploadId=upload.id)
    path = plane.store.scratch_path()
    incoming.path.rename(path)
    if (old := upload.parts.get(number)) is not None:
        old.path.unlink(missing_ok=True)
    digests = incoming.digests
    part = Part(
        number,
        path,
        digests.size,
        digests.md5.hex(),
        digests.checksums[upload.algorithm],
        iso8601(plane.clock.now()),
    )
    upload.parts[number] = part
    return part


def _listed_parts(upload: Upload, body: bytes) -> list[Part]:
    parts: list[Part] = []
    for item in children(parse_xml(body, "CompleteMultipartUpload"), "Part"):
        number, etag = text(item, "PartNumber"), text(item, "ETag").strip('"')
        part = upload.parts.get(int(number)) if number.isdigit() else None
        if part is None or part.etag != etag:
            raise S3Error("InvalidPart", UploadId=upload.id, PartNumber=number, ETag=etag)
        if parts and part.number <= parts[-1].number:
            raise S3Error("InvalidPartOrder", UploadId=upload.id)
        parts.append(part)
    if not parts:
        raise S3Error("MalformedXML")
    if small := [part for part in parts[:-1] if part.size < PART_BYTES_MIN]:
        raise S3Error(
            "EntityTooSmall",
            ProposedSize=small[0].size,
            MinSizeAllowed=PART_BYTES_MIN,
            PartNumber=small[0].number,
            ETag=small[0].etag,
        )
    return parts


def _join(incoming: Incoming, paths: list[Path]) -> None:
    for path in paths:
        with path.open("rb") as data:
            while chunk := data.read(_CHUNK_BYTES):
                incoming.write(chunk)
