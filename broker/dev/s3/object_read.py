"""GET and HEAD of an object: conditions, ranges, overrides of headers.

Source: Amazon S3 API Reference, "GetObject" and "HeadObject"; RFC 9110 section 14.
"""

import re
from collections.abc import Iterator
from typing import BinaryIO

from starlette.responses import Response, StreamingResponse

from broker.dev.s3 import facts
from broker.dev.s3.conditional import check_read
from broker.dev.s3.errors import S3Error, invalid_argument
from broker.dev.s3.objects import ObjectVersion
from broker.dev.s3.payload import Payload
from broker.dev.s3.plane import Plane, check_restored
from broker.dev.s3.request import Request

_CHUNK_BYTES = 256 * 1024
_OVERRIDES = {f"response-{name.lower()}": name.lower() for name in facts.OVERRIDES}


async def get_object(plane: Plane, request: Request, payload: Payload) -> Response:
    """Answer with an object's bytes, or the range of them that was asked for."""
    version = _find(plane, request)
    check_restored(version)
    headers = _headers(plane, request, version)
    first, last = 0, version.size - 1
    status = 200
    if (span := requested_range(request.headers.get("range"), version.size)) is not None:
        first, last = span
        status = 206
        headers["content-range"] = f"bytes {first}-{last}/{version.size}"
    headers["content-length"] = str(last - first + 1)
    data = plane.store.open(request.bucket, version)
    return StreamingResponse(_read(data, first, last - first + 1), status, headers)


async def head_object(plane: Plane, request: Request, payload: Payload) -> Response:
    """Answer with what GET would say, without the bytes."""
    version = _find(plane, request)
    headers = _headers(plane, request, version)
    status, size = 200, version.size
    if (span := requested_range(request.headers.get("range"), version.size)) is not None:
        status, size = 206, span[1] - span[0] + 1
        headers["content-range"] = f"bytes {span[0]}-{span[1]}/{version.size}"
    headers["content-length"] = str(size)
    return Response(b"", status, headers)


def requested_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the first and last byte of a range; None for the whole object.

    Several ranges, or no range at all, mean the whole object. A range that lies outside is `InvalidRange`.
    """
    if header is None or not (match := re.fullmatch(r"bytes=(\d*)-(\d*)", header.strip())):
        return None
    start, end = match.groups()
    if start:
        first, last = int(start), min(int(end), size - 1) if end else size - 1
        if end and int(end) < first:
            return None
    elif end:
        first, last = max(0, size - int(end)), size - 1
        if int(end) == 0:
            first = size
    else:
        return None
    if first >= size:
        raise S3Error(
            "InvalidRange",
            headers={"content-range": f"bytes */{size}"},
            RangeRequested=header,
            ActualObjectSize=size,
        )
    return first, last


def _find(plane: Plane, request: Request) -> ObjectVersion:
    if "partNumber" in request.params:
        raise S3Error("NotImplemented", Header="partNumber")
    version = plane.find(request.bucket, request.key, request.params.get("versionId"), method=request.method)
    check_read(request.headers, version, plane.clock.now())
    return version


def _headers(plane: Plane, request: Request, version: ObjectVersion) -> dict[str, str]:
    headers = facts.answer_headers(
        version,
        # A range has no checksum of its own.
        with_checksums=request.said.get("x-amz-checksum-mode", "").upper() == "ENABLED"
        and "range" not in request.headers,
        versioned=plane.services.versioning(request.bucket) is not None,
    )
    for parameter, name in _OVERRIDES.items():
        if (value := request.params.get(parameter)) is not None:
            if not value.isprintable() or any(letter > "\xff" for letter in value):
                raise invalid_argument(facts.UNREPRESENTABLE, parameter, value)
            headers[name] = value
    return headers


def _read(data: BinaryIO, offset: int, size: int) -> Iterator[bytes]:
    with data:
        data.seek(offset)
        while size > 0 and (chunk := data.read(min(_CHUNK_BYTES, size))):
            size -= len(chunk)
            yield chunk
