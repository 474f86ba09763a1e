"""Object tags: in a header, in a form field, and as a sub-resource.

Source: Amazon S3 User Guide, "Categorizing your objects using tags".
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from urllib.parse import unquote_plus
from xml.etree.ElementTree import Element

from starlette.responses import Response

from broker.dev.s3.answers import Content, xml_answer
from broker.dev.s3.documents import children, parse_any_xml, parse_xml, text
from broker.dev.s3.errors import S3Error, invalid_argument
from broker.dev.s3.objects import ObjectVersion
from broker.dev.s3.payload import Payload
from broker.dev.s3.plane import DeleteMarkerError, Plane
from broker.dev.s3.request import Request

TAGS_MAX = 10
KEY_LENGTH_MAX = 128
VALUE_LENGTH_MAX = 256
_RESERVED_PREFIX = "aws:"
_ALLOWED = re.compile(r"[\w\s+=.:/@-]*")


def read_tagging(body: bytes) -> dict[str, str]:
    """Read a `<Tagging>` document."""
    return _read_tag_set(parse_xml(body, "Tagging"))


def read_tagging_field(document: str) -> dict[str, str]:
    """Read the `tagging` field of a form. XML of another kind means no tags; AWS accepts it."""
    return _read_tag_set(parse_any_xml(document.encode()))


def read_tagging_header(header: str) -> dict[str, str]:
    """Read an `x-amz-tagging` header, which is encoded as a query is."""
    pairs = [pair.partition("=") for pair in header.split("&") if pair]
    tags = [(_decoded(name, header), _decoded(value, header)) for name, _, value in pairs]
    names = [name for name, _ in tags]
    if len(set(names)) < len(names) or any("=" in value for _, _, value in pairs):
        raise _malformed_header(header)
    if not all(_ALLOWED.fullmatch(name) and _ALLOWED.fullmatch(value) for name, value in tags):
        raise _malformed_header(header)
    return checked(tags)


def checked(tags: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the tags of an object, or refuse those that S3 does not allow."""
    result: dict[str, str] = {}
    for name, value in tags:
        if name in result:
            raise S3Error("InvalidTag", "Cannot provide multiple Tags with the same key", TagKey=name)
        if name.startswith(_RESERVED_PREFIX):
            raise S3Error("InvalidTag", f"Your TagKey cannot be prefixed with {_RESERVED_PREFIX}", TagKey=name)
        if not valid_key(name):
            raise S3Error("InvalidTag", "The TagKey you have provided is invalid", TagKey=name)
        if not valid_value(value):
            raise S3Error("InvalidTag", "The TagValue you have provided is invalid", TagKey=name, TagValue=value)
        result[name] = value
    if len(result) > TAGS_MAX:
        raise S3Error("BadRequest", f"Object tags cannot be greater than {TAGS_MAX}")
    return result


def valid_key(name: str) -> bool:
    """Return whether S3 allows a tag's key."""
    return 1 <= len(name) <= KEY_LENGTH_MAX and _ALLOWED.fullmatch(name) is not None


def valid_value(value: str) -> bool:
    """Return whether S3 allows a tag's value."""
    return len(value) <= VALUE_LENGTH_MAX and _ALLOWED.fullmatch(value) is not None


async def get_object_tagging(plane: Plane, request: Request, payload: Payload) -> Response:
    """Return an object's tags."""
    version = _find(plane, request)
    tags: list[tuple[str, Content]] = [
        ("Tag", [("Key", name), ("Value", value)]) for name, value in version.tags.items()
    ]
    return xml_answer("Tagging", [("TagSet", tags)], headers=_version_header(plane, request, version))


async def put_object_tagging(plane: Plane, request: Request, payload: Payload) -> Response:
    """Replace an object's tags."""
    tags = read_tagging(await payload.read())
    version = _find(plane, request)
    plane.store.update(request.bucket, replace(version, tags=tags))
    return Response(b"", 200, _version_header(plane, request, version))


async def delete_object_tagging(plane: Plane, request: Request, payload: Payload) -> Response:
    """Remove an object's tags."""
    version = _find(plane, request)
    plane.store.update(request.bucket, replace(version, tags={}))
    return Response(b"", 204, _version_header(plane, request, version))


def _find(plane: Plane, request: Request) -> ObjectVersion:
    """Return the version that a request names. A delete marker has no tags, even as the latest version."""
    latest = plane.store.latest(request.bucket, request.key)
    if "versionId" not in request.params and latest is not None and latest.delete_marker:
        raise DeleteMarkerError(request.method, latest)
    return plane.find(request.bucket, request.key, request.params.get("versionId"), method=request.method)


def _version_header(plane: Plane, request: Request, version: ObjectVersion) -> dict[str, str]:
    versioned = plane.services.versioning(request.bucket) is not None
    return {"x-amz-version-id": version.version_id} if versioned else {}


def _read_tag_set(root: Element) -> dict[str, str]:
    tags = [tag for tag_set in children(root, "TagSet") for tag in children(tag_set, "Tag")]
    return checked((text(tag, "Key"), text(tag, "Value")) for tag in tags)


def _decoded(encoded: str, header: str) -> str:
    try:
        return unquote_plus(encoded, errors="strict")
    except UnicodeDecodeError:
        raise _malformed_header(header) from None


def _malformed_header(header: str) -> S3Error:
    return invalid_argument(
        "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters "
        "without tag name duplicates.",
        "x-amz-tagging",
        header,
    )
