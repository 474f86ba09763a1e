"""Object tags: in a header, in a form field, and as a sub-resource.

Source: Amazon S3 User Guide, "Categorizing your objects using tags".
"""

from dataclasses import replace
from urllib.parse import parse_qsl

from starlette.responses import Response

from broker.dev.s3.answers import Content, xml_answer
from broker.dev.s3.documents import children, parse_xml, text
from broker.dev.s3.errors import S3Error
from broker.dev.s3.payload import Payload
from broker.dev.s3.plane import Plane
from broker.dev.s3.request import Request

TAGS_MAX = 10


def read_tagging(body: bytes) -> dict[str, str]:
    """Read a `<Tagging>` document."""
    root = parse_xml(body, "Tagging")
    tags = [tag for tag_set in children(root, "TagSet") for tag in children(tag_set, "Tag")]
    return _checked({text(tag, "Key"): text(tag, "Value") for tag in tags})


def read_tagging_header(value: str) -> dict[str, str]:
    """Read an `x-amz-tagging` header, which is encoded as a query is."""
    return _checked(dict(parse_qsl(value, keep_blank_values=True)))


async def get_object_tagging(plane: Plane, request: Request, payload: Payload) -> Response:
    """Answer with an object's tags."""
    version = plane.find(request.bucket, request.key, request.params.get("versionId"))
    tags: list[tuple[str, Content]] = [
        ("Tag", [("Key", name), ("Value", value)]) for name, value in version.tags.items()
    ]
    return xml_answer("Tagging", [("TagSet", tags)])


async def put_object_tagging(plane: Plane, request: Request, payload: Payload) -> Response:
    """Replace an object's tags."""
    tags = read_tagging(await payload.read())
    version = plane.find(request.bucket, request.key, request.params.get("versionId"))
    plane.store.update(request.bucket, replace(version, tags=tags))
    return Response(b"", 200)


async def delete_object_tagging(plane: Plane, request: Request, payload: Payload) -> Response:
    """Remove an object's tags."""
    version = plane.find(request.bucket, request.key, request.params.get("versionId"))
    plane.store.update(request.bucket, replace(version, tags={}))
    return Response(b"", 204)


def _checked(tags: dict[str, str]) -> dict[str, str]:
    if len(tags) > TAGS_MAX:
        raise S3Error("BadRequest", "Object tags cannot be greater than 10")
    return tags
