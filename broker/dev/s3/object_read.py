"""GET and HEAD of an object: conditions, ranges, parts, overridden headers.

Source: Amazon S3 API Reference, "GetObject" and "HeadObject"; RFC 9110 section 14.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from broker.dev.s3 import facts
from broker.dev.s3.checksums import COMPOSITE, TYPE_HEADER, header_name
from broker.dev.s3.conditional import check_read
from broker.dev.s3.errors import S3Error, invalid_argument
from broker.dev.s3.objects import ObjectVersion
from broker.dev.s3.parts import part_number
from broker.dev.s3.payload import Payload
from broker.dev.s3.plane import Plane, check_restored
from broker.dev.s3.request import Request

_CHUNK_BYTES = 256 * 1024
_OVERRIDES = {f"response-{name.lower()}": name.lower() for name in facts.OVERRIDES}


@dataclass(frozen=True, slots=True)
class _Selection:
    """The bytes that a read asks for, and the status of its answer."""

    first: int
    size: int
    status: int = 200
    part_number: int = 0


class _ObjectResponse(StreamingResponse):
    """The selected bytes of an object, which is closed once they are sent or the client has gone away."""

    def __init__(self, data: BinaryIO, selection: _Selection, headers: dict[str, str]) -> None:
        super().__init__(_chunks(data, selection.size), selection.status, headers)
        self._data = data

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._data:
            await super().__call__(scope, receive, send)


async def get_object(plane: Plane, request: Request, payload: Payload) -> Response:
    """Answer with an object's bytes, or with those of a range or a part."""
    version = _find(plane, request)
    check_restored(version)
    selection = _selection(request, version)
    headers = _headers(plane, request, version, selection)
    data = plane.store.open(request.bucket, version, selection.first, selection.size)
    return _ObjectResponse(data, selection, headers)


async def head_object(plane: Plane, request: Request, payload: Payload) -> Response:
    """Answer with the status and the headers of a GET."""
    version = _find(plane, request)
    selection = _selection(request, version)
    return Response(b"", selection.status, _headers(plane, request, version, selection))


def requested_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the first and last byte of a range, or None for the whole object.

    Several ranges, or an ill-formed one, mean the whole object. A range outside the object is `InvalidRange`.
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
    version = plane.find(request.bucket, request.key, request.params.get("versionId"), method=request.method)
    check_read(request.headers, version, plane.clock.now())
    return version


def _selection(request: Request, version: ObjectVersion) -> _Selection:
    if "partNumber" not in request.params:
        span = requested_range(request.headers.get("range"), version.size)
        return _Selection(0, version.size) if span is None else _Selection(span[0], span[1] - span[0] + 1, 206)
    number = part_number(request.params)
    if "range" in request.headers:
        raise S3Error("InvalidRequest", "Cannot specify both Range header and partNumber query parameter")
    sizes = {part.number: part.size for part in version.parts} or {1: version.size}
    if number not in sizes:
        raise S3Error("InvalidPartNumber", PartNumberRequested=number, ActualPartCount=len(sizes))
    first = sum(size for other, size in sizes.items() if other < number)
    # No Content-Range can describe zero bytes.
    return _Selection(first, sizes[number], 206 if sizes[number] else 200, number)


def _headers(plane: Plane, request: Request, version: ObjectVersion, selection: _Selection) -> dict[str, str]:
    with_checksums = request.fields.get("x-amz-checksum-mode", "").upper() == "ENABLED"
    headers = facts.answer_headers(
        version,
        # A checksum of the object is not one of its range.
        with_checksums=with_checksums and selection.size == version.size and "range" not in request.headers,
        versioned=plane.services.versioning(request.bucket) is not None,
    )
    headers["content-length"] = str(selection.size)
    if selection.status == 206:
        last = selection.first + selection.size - 1
        headers["content-range"] = f"bytes {selection.first}-{last}/{version.size}"
    if selection.part_number and version.parts:
        headers["x-amz-mp-parts-count"] = str(len(version.parts))
        if with_checksums:
            headers |= _part_checksum(version, selection.part_number)
    for parameter, name in _OVERRIDES.items():
        if (value := request.params.get(parameter)) is not None:
            if not value.isprintable() or any(letter > "\xff" for letter in value):
                raise invalid_argument(facts.UNREPRESENTABLE, parameter, value)
            headers[name] = value
    return headers


def _part_checksum(version: ObjectVersion, number: int) -> dict[str, str]:
    """Return the checksum headers of a part; only the parts of COMPOSITE objects have checksums of their own."""
    if version.checksum_type != COMPOSITE:
        return {}
    checksum = next(part.checksum for part in version.parts if part.number == number)
    return {header_name(name): checksum for name in version.checksums} | {TYPE_HEADER: COMPOSITE}


def _chunks(data: BinaryIO, size: int) -> Iterator[bytes]:
    while size > 0 and (chunk := data.read(min(_CHUNK_BYTES, size))):
        size -= len(chunk)
        yield chunk
