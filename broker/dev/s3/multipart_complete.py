"""CompleteMultipartUpload: one object of the listed parts, once, however often the request is sent.

Source: Amazon S3 API Reference, "CompleteMultipartUpload"; Amazon S3 User Guide, "Add preconditions to S3 operations
with conditional requests".
"""

import asyncio
import hashlib
import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from urllib.parse import quote

from starlette.responses import Response

from broker.dev.s3 import facts
from broker.dev.s3.answers import Content, xml_answer
from broker.dev.s3.checksums import ALGORITHMS
from broker.dev.s3.composed import compose
from broker.dev.s3.conditional import check_write
from broker.dev.s3.documents import children, parse_xml, text
from broker.dev.s3.errors import S3Error, invalid_argument
from broker.dev.s3.multipart_checksums import (
    ListedPart,
    check_listed,
    check_object,
    check_part,
    check_request,
    object_checksum,
)
from broker.dev.s3.objects import NULL_VERSION, ObjectPart, ObjectVersion
from broker.dev.s3.parts import Part, Upload, completed_version, no_such_upload
from broker.dev.s3.payload import Payload
from broker.dev.s3.plane import Plane, Stored
from broker.dev.s3.request import Request

_LIST_BYTES_MAX = 8 * 1024**2
_SIZE_HEADER = "x-amz-mp-object-size"


async def complete(plane: Plane, request: Request, payload: Payload) -> Response:
    """Make an object of the listed parts.

    A repeated request gets the first one's answer, as long as the object is there.
    """
    plane.services.bucket(request.bucket)
    body = await payload.read(_LIST_BYTES_MAX, checksums_of_body=False)
    upload_id = request.params["uploadId"]
    upload = plane.uploads.find(request.bucket, request.key, upload_id)
    if upload is not None:
        async with upload.lock:
            if upload in plane.uploads:
                return _answer(request, await _completed(plane, request, upload, body))
    version = completed_version(plane.store, request.bucket, request.key, upload_id)
    if version is None or version.etag != _etag(part.etag for part in read_list(body)):
        raise no_such_upload(upload_id)
    return _answer(request, version)


async def _completed(plane: Plane, request: Request, upload: Upload, body: bytes) -> ObjectVersion:
    request_headers = request.fields
    _check_condition(plane, upload, request_headers)
    listed = read_list(body)
    check_request(upload, request_headers)
    parts = _listed_parts(upload, listed, plane.uploads.part_bytes_min)
    _check_size(request_headers.get(_SIZE_HEADER), sum(part.size for part in parts))
    checksum = object_checksum(upload, parts)
    check_object(upload, checksum, request_headers)
    with plane.store.scratch() as path:
        await asyncio.to_thread(compose, [(plane.uploads.path(upload, part), part.size) for part in parts], path)
        stored = Stored(
            path,
            sum(part.size for part in parts),
            _etag(part.etag for part in parts),
            {upload.algorithm: checksum},
            "FULL_OBJECT" if upload.full_object else "COMPOSITE",
            [ObjectPart(part.number, part.size, part.checksum) for part in parts],
            upload.id,
        )
        _check_condition(plane, upload, request_headers)
        version = plane.put(
            "ObjectCreated:CompleteMultipartUpload",
            upload.bucket,
            upload.key,
            stored,
            {"x-amz-storage-class": upload.storage_class},
            headers=upload.headers,
            metadata=upload.metadata,
            tags=upload.tags,
        )
    plane.uploads.remove(upload)
    return version


def read_list(body: bytes) -> list[ListedPart]:
    """Read the parts that a Complete lists, in ascending order."""
    if not body:
        raise S3Error("InvalidRequest", "You must specify at least one part")
    parts: list[ListedPart] = []
    for item in children(parse_xml(body, "CompleteMultipartUpload"), "Part"):
        number = text(item, "PartNumber")
        if not re.fullmatch(r"-?[0-9]{1,9}", number):
            raise S3Error("MalformedXML")
        if int(number) < 1:
            raise invalid_argument("PartNumber must be >= 1", "PartNumber", number)
        checksums = {name: value for name in ALGORITHMS if (value := text(item, f"Checksum{name}", ""))}
        part = ListedPart(int(number), text(item, "ETag").strip('"'), checksums)
        check_listed(part)
        parts.append(part)
    if not parts:
        raise S3Error("MalformedXML")
    return parts


def _listed_parts(upload: Upload, listed: list[ListedPart], part_bytes_min: int) -> list[Part]:
    numbers = [part.number for part in listed]
    is_ascending = all(first < second for first, second in pairwise(numbers))
    # Source: Amazon S3 API Reference, "CompletedPart": with part checksums the numbers must be consecutive.
    is_gapless = upload.full_object or numbers == list(range(1, len(numbers) + 1))
    if not (is_ascending and is_gapless):
        raise S3Error("InvalidPartOrder", UploadId=upload.id)
    parts: list[Part] = []
    for item in listed:
        part = upload.parts.get(item.number)
        if part is None or part.etag != item.etag or not check_part(upload, part, item):
            raise S3Error("InvalidPart", UploadId=upload.id, PartNumber=item.number, ETag=item.etag)
        parts.append(part)
    if small := next((part for part in parts[:-1] if part.size < part_bytes_min), None):
        raise S3Error(
            "EntityTooSmall",
            ProposedSize=small.size,
            MinSizeAllowed=part_bytes_min,
            PartNumber=small.number,
            ETag=small.etag,
        )
    return parts


def _check_condition(plane: Plane, upload: Upload, request_headers: Mapping[str, str]) -> None:
    """Refuse a conditional Complete if its condition does not hold, or the key has changed since Create."""
    check_write(request_headers, plane.store.current(upload.bucket, upload.key), upload.key)
    latest = plane.store.latest(upload.bucket, upload.key)
    if (0 if latest is None else latest.sequence) == upload.replaces:
        return
    for condition in ("If-Match", "If-None-Match"):
        if condition.lower() in request_headers:
            raise S3Error("ConditionalRequestConflict", Condition=condition, Key=upload.key)


def _check_size(header: str | None, size: int) -> None:
    if header is None:
        return
    if not re.fullmatch(r"-?[0-9]{1,18}", header):
        raise S3Error("InvalidRequest", f"Value for {_SIZE_HEADER} header is invalid: '{header}'")
    if int(header) < 0:
        raise S3Error("InvalidRequest", f"Value for {_SIZE_HEADER} header is less than zero: '{header}'")
    if int(header) != size:
        raise S3Error(
            "InvalidRequest",
            f"The provided '{_SIZE_HEADER}' header value {header} does not match what was computed: {size}",
        )


def _etag(part_etags: Iterable[str]) -> str:
    """Return the ETag of a multipart object: the MD5 of its parts' MD5s, and their number."""
    digest, count = hashlib.md5(usedforsecurity=False), 0
    for etag in part_etags:
        digest.update(bytes.fromhex(etag) if re.fullmatch(r"[0-9a-f]{32}", etag) else etag.encode())
        count += 1
    return f"{digest.hexdigest()}-{count}"


def _answer(request: Request, version: ObjectVersion) -> Response:
    content: list[tuple[str, Content]] = [
        ("Location", f"{request.base_url}/{quote(version.key, safe='')}"),
        ("Bucket", request.bucket),
        ("Key", version.key),
        ("ETag", f'"{version.etag}"'),
        ("ChecksumType", version.checksum_type),
        *((f"Checksum{name}", value) for name, value in version.checksums.items()),
    ]
    headers = facts.encryption_headers(version.headers)
    if version.version_id != NULL_VERSION:
        headers["x-amz-version-id"] = version.version_id
    return xml_answer("CompleteMultipartUploadResult", content, headers=headers)
