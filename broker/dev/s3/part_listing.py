"""The lists of multipart uploads in progress, and of an upload's parts, in pages.

Source: Amazon S3 API Reference, "ListParts" and "ListMultipartUploads"; where it is silent, answers of AWS that others
recorded (LocalStack's snapshot tests).
"""

import re
from collections.abc import Mapping
from urllib.parse import quote

from starlette.responses import Response

from broker.dev.s3.answers import Content, xml_answer
from broker.dev.s3.errors import invalid_argument
from broker.dev.s3.parts import Part, Upload, parts_in_order
from broker.dev.s3.payload import Payload
from broker.dev.s3.plane import Plane
from broker.dev.s3.request import Request

PAGE_MAX = 1000
_INT_MAX = 2**31 - 1
_OWNER: tuple[str, Content] = ("Owner", [("ID", "embedded")])
_INITIATOR: tuple[str, Content] = ("Initiator", [("ID", "embedded"), ("DisplayName", "embedded")])


async def list_parts(plane: Plane, request: Request, payload: Payload) -> Response:
    """List the parts of an upload after a part number."""
    upload = plane.find_upload(request)
    size_max = min(page_number(request.params, "max-parts", PAGE_MAX), PAGE_MAX)
    marker = page_number(request.params, "part-number-marker", 0)
    following = [part for part in parts_in_order(upload) if part.number > marker]
    page = following[:size_max]
    content: list[tuple[str, Content]] = [
        ("Bucket", upload.bucket),
        ("Key", upload.key),
        ("UploadId", upload.id),
        _INITIATOR,
        _OWNER,
        ("StorageClass", upload.storage_class),
        ("PartNumberMarker", marker),
        ("NextPartNumberMarker", page[-1].number if page else 0),
        ("MaxParts", size_max),
        ("IsTruncated", len(page) < len(following)),
        *_checksum_elements(upload),
    ]
    content += [("Part", _part_elements(upload, part)) for part in page]
    return xml_answer("ListPartsResult", content)


async def list_uploads(plane: Plane, request: Request, payload: Payload) -> Response:
    """List a bucket's uploads in progress after a key and, among those of the key, after an upload id.

    A common prefix takes a place on the page, but is no marker of the next one (recorded from AWS).
    """
    plane.services.bucket(request.bucket)
    params = request.params
    encodes = _encodes(params)
    prefix, delimiter = params.get("prefix", ""), params.get("delimiter", "")
    key_marker = params.get("key-marker", "")
    id_marker = params.get("upload-id-marker", "") if key_marker else ""
    size_max = min(page_number(params, "max-uploads", PAGE_MAX), PAGE_MAX)
    page: list[Upload] = []
    prefixes: list[str] = []
    is_truncated = False
    for upload in _after(plane.uploads.of_bucket(request.bucket), key_marker, id_marker):
        if not upload.key.startswith(prefix):
            continue
        end = upload.key.find(delimiter, len(prefix)) if delimiter else -1
        common = None if end < 0 else upload.key[: end + len(delimiter)]
        if common is not None and (common in prefixes or key_marker.startswith(common)):
            continue
        if len(page) + len(prefixes) >= size_max:
            is_truncated = size_max > 0
            break
        if common is None:
            page.append(upload)
        else:
            prefixes.append(common)

    def name(text: str) -> str:
        return quote(text, safe="/") if encodes else text

    content: list[tuple[str, Content]] = [
        ("Bucket", request.bucket),
        ("KeyMarker", name(key_marker)),
        ("UploadIdMarker", id_marker),
        ("NextKeyMarker", name(page[-1].key) if page else ""),
        ("NextUploadIdMarker", page[-1].id if page else ""),
        ("MaxUploads", size_max),
        ("IsTruncated", is_truncated),
    ]
    if delimiter:
        content.append(("Delimiter", name(delimiter)))
    if prefix:
        content.append(("Prefix", name(prefix)))
    if encodes:
        content.append(("EncodingType", "url"))
    content += [("Upload", _upload_elements(upload, name(upload.key))) for upload in page]
    content += [("CommonPrefixes", [("Prefix", name(common))]) for common in prefixes]
    return xml_answer("ListMultipartUploadsResult", content)


def page_number(values: Mapping[str, str], name: str, default: int) -> int:
    """Return the number by which a client limits or continues a list; an empty value counts as none."""
    value = values.get(name, "")
    if not value:
        return default
    if not re.fullmatch(r"[+-]?[0-9]{1,10}", value) or abs(int(value)) > _INT_MAX:
        raise invalid_argument(f"Provided {name} not an integer or within integer range", name, value)
    if int(value) < 0:
        raise invalid_argument(f"Argument {name} must be an integer between 0 and {_INT_MAX}", name, value)
    return int(value)


def _after(uploads: list[Upload], key_marker: str, id_marker: str) -> list[Upload]:
    if not key_marker:
        return uploads
    if not id_marker:
        return [upload for upload in uploads if upload.key.encode() > key_marker.encode()]
    marker = next((upload for upload in uploads if upload.id == id_marker), None)
    # A marker of a later key continues there; one of an earlier key is no place after the key marker.
    is_placed = marker is not None and (
        marker.key == key_marker
        or (marker.key.encode() > key_marker.encode() and all(upload.key != key_marker for upload in uploads))
    )
    if marker is None or not is_placed:
        raise invalid_argument("Invalid uploadId marker", "upload-id-marker", id_marker)
    return uploads[uploads.index(marker) + 1 :]


def _encodes(params: Mapping[str, str]) -> bool:
    encoding = params.get("encoding-type")
    if encoding not in (None, "url"):
        raise invalid_argument("Invalid Encoding Method specified in Request", "encoding-type", encoding)
    return encoding == "url"


def _checksum_elements(upload: Upload) -> list[tuple[str, Content]]:
    if not upload.named_algorithm:
        return []
    return [("ChecksumAlgorithm", upload.named_algorithm), ("ChecksumType", upload.checksum_type)]


def _part_elements(upload: Upload, part: Part) -> list[tuple[str, Content]]:
    elements: list[tuple[str, Content]] = [
        ("PartNumber", part.number),
        ("LastModified", part.modified_at),
        ("ETag", f'"{part.etag}"'),
        ("Size", part.size),
    ]
    if upload.named_algorithm:
        elements.append((f"Checksum{upload.algorithm}", part.checksum))
    return elements


def _upload_elements(upload: Upload, key: str) -> list[tuple[str, Content]]:
    return [
        ("Key", key),
        ("UploadId", upload.id),
        _INITIATOR,
        _OWNER,
        ("StorageClass", upload.storage_class),
        ("Initiated", upload.started_at),
        *_checksum_elements(upload),
    ]
