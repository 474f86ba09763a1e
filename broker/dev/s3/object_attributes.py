"""GetObjectAttributes: what HEAD answers about an object, and its parts, as XML.

Source: Amazon S3 API Reference, "GetObjectAttributes".
"""

from starlette.responses import Response

from broker.dev.s3.answers import Content, xml_answer
from broker.dev.s3.checksums import COMPOSITE
from broker.dev.s3.clock import http_date
from broker.dev.s3.errors import S3Error, invalid_argument
from broker.dev.s3.objects import ObjectPart, ObjectVersion
from broker.dev.s3.part_listing import PAGE_MAX, page_number
from broker.dev.s3.payload import Payload
from broker.dev.s3.plane import Plane
from broker.dev.s3.request import Request

_HEADER = "x-amz-object-attributes"
_MARKER_HEADER = "x-amz-part-number-marker"
_ATTRIBUTES = ("ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize")


async def get_object_attributes(plane: Plane, request: Request, payload: Payload) -> Response:
    """Answer with the attributes of an object that the request names."""
    request_headers = request.fields
    version = plane.find(request.bucket, request.key, request.params.get("versionId"))
    lines = request.headers.getlist(_HEADER) or [request_headers.get(_HEADER, "")]
    names = [name.strip() for line in lines for name in line.split(",") if name.strip()]
    if not names:
        raise S3Error(
            "InvalidRequest",
            "The x-amz-object-attributes header specifying the attributes to be retrieved is either missing or empty",
        )
    for name in names:
        if name not in _ATTRIBUTES:
            raise invalid_argument("Invalid attribute name specified.", _HEADER, name)
    parts = _parts(
        version,
        page_number(request_headers, "x-amz-max-parts", PAGE_MAX),
        page_number(request_headers, _MARKER_HEADER, 0),
    )
    attributes: dict[str, Content] = {
        "ETag": version.etag,
        "Checksum": [
            *((f"Checksum{name}", value.partition("-")[0]) for name, value in version.checksums.items()),
            ("ChecksumType", version.checksum_type),
        ],
        "ObjectParts": parts,
        "StorageClass": version.storage_class,
        "ObjectSize": version.size,
    }
    if not version.parts:
        del attributes["ObjectParts"]
    content = [(name, value) for name, value in attributes.items() if name in names]
    headers = {"last-modified": http_date(version.modified)}
    if plane.services.versioning(request.bucket) is not None:
        headers["x-amz-version-id"] = version.version_id
    return xml_answer("GetObjectAttributesResponse", content, headers=headers)


def _parts(version: ObjectVersion, size_max: int, marker: int) -> list[tuple[str, Content]]:
    """Return the number of parts; only those of a COMPOSITE object are listed (recorded from AWS)."""
    content: list[tuple[str, Content]] = [("PartsCount", len(version.parts))]
    if version.checksum_type != COMPOSITE:
        return content
    following = [part for part in version.parts if part.number > marker]
    page = following[: min(size_max, PAGE_MAX)]
    content += [
        ("PartNumberMarker", marker),
        ("NextPartNumberMarker", page[-1].number if page else 0),
        ("MaxParts", min(size_max, PAGE_MAX)),
        ("IsTruncated", len(page) < len(following)),
    ]
    content += [("Part", _part_elements(version, part)) for part in page]
    return content


def _part_elements(version: ObjectVersion, part: ObjectPart) -> list[tuple[str, Content]]:
    return [
        *((f"Checksum{name}", part.checksum) for name in version.checksums),
        ("PartNumber", part.number),
        ("Size", part.size),
    ]
