"""PUT and DELETE of objects, one or up to a thousand.

Source: Amazon S3 API Reference, "PutObject", "DeleteObject" and "DeleteObjects".
"""

from collections.abc import AsyncIterator, Mapping

from starlette.responses import Response

from broker.dev.s3 import facts
from broker.dev.s3.answers import Content, xml_answer
from broker.dev.s3.checksums import (
    DEFAULT_ALGORITHM,
    HEADER_PREFIX,
    declared,
    declared_md5,
    invalid_value,
    supported,
)
from broker.dev.s3.conditional import check_write
from broker.dev.s3.documents import children, parse_xml, text
from broker.dev.s3.errors import S3Error, invalid_argument
from broker.dev.s3.objects import Incoming
from broker.dev.s3.payload import Payload
from broker.dev.s3.plane import OBJECT_BYTES_MAX, InvalidVersionError, Plane, Stored
from broker.dev.s3.request import Request
from broker.dev.s3.tagging import read_tagging_header

DELETE_KEYS_MAX = 1000
_CONDITIONS = {
    "ETag": "if-match",
    "LastModifiedTime": "x-amz-if-match-last-modified-time",
    "Size": "x-amz-if-match-size",
}
_BYPASS = "x-amz-bypass-governance-retention"


async def put_object(plane: Plane, request: Request, payload: Payload) -> Response:
    """Store the body as an object."""
    fields = request.fields
    plane.services.bucket(request.bucket)
    check_write(fields, plane.store.current(request.bucket, request.key), request.key)
    facts.check(fields)
    tags = read_tagging_header(fields.get("x-amz-tagging", ""))
    with plane.store.incoming(asked_algorithm(fields)) as incoming:
        await receive(request, payload, incoming)
        stored = Stored(incoming.path, incoming.digests.size, incoming.digests.md5.hex(), incoming.digests.checksums)
        version = plane.put("ObjectCreated:Put", request.bucket, request.key, stored, fields, tags=tags)
    return Response(b"", 200, facts.stored_headers(version))


async def receive(request: Request, payload: Payload, incoming: Incoming) -> None:
    """Write a request's body to disk while it arrives, and compare it with the declared checksums and size."""
    expected, md5 = declared(request.fields), declared_md5(request.headers)
    size = payload.decoded_length() if payload.in_chunks else request.content_length()
    if size > OBJECT_BYTES_MAX:
        raise S3Error("EntityTooLarge", ProposedSize=size, MaxSizeAllowed=OBJECT_BYTES_MAX)
    chunks: AsyncIterator[bytes] = payload.chunks()
    async for chunk in chunks:
        incoming.write(chunk)
    incoming.digests.compare(expected | declared(payload.trailers), md5)
    incoming.close()


def asked_algorithm(fields: Mapping[str, str], default: str = DEFAULT_ALGORITHM) -> str:
    """Return the checksum algorithm a client declares, announces as a trailer, or asks for."""
    sdk_algorithm = fields.get("x-amz-sdk-checksum-algorithm")
    for algorithm in declared(fields):
        if sdk_algorithm is not None and sdk_algorithm.upper() != algorithm:
            raise invalid_value("x-amz-sdk-checksum-algorithm")
        return algorithm
    trailer = fields.get("x-amz-trailer", "").strip().lower()
    announced = trailer.startswith(HEADER_PREFIX)
    if sdk_algorithm is not None and not announced:
        raise S3Error(
            "InvalidRequest",
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer "
            "headers were found.",
        )
    return supported(
        trailer.removeprefix(HEADER_PREFIX) if announced else fields.get("x-amz-checksum-algorithm", default)
    )


async def delete_object(plane: Plane, request: Request, payload: Payload) -> Response:
    """Delete an object, or one version of it."""
    _refuse_bypass(request)
    headers = plane.delete(request.bucket, request.key, request.params.get("versionId"), request.fields)
    return Response(b"", 204, headers)


async def delete_objects(plane: Plane, request: Request, payload: Payload) -> Response:
    """Delete up to 1,000 keys, and return a result for each."""
    if not declared(request.headers) and "content-md5" not in request.headers and not payload.in_chunks:
        raise S3Error("InvalidRequest", "Missing required header for this request: Content-MD5 OR x-amz-checksum-*")
    _refuse_bypass(request)
    root = parse_xml(await payload.read(), "Delete")
    wanted = list(children(root, "Object"))
    if not 1 <= len(wanted) <= DELETE_KEYS_MAX:
        raise S3Error("MalformedXML")
    plane.services.bucket(request.bucket)
    quiet = text(root, "Quiet", "false") == "true"
    results: list[tuple[str, Content]] = []
    for item in wanted:
        key, version_id = text(item, "Key"), text(item, "VersionId", "") or None
        named: list[tuple[str, Content]] = [("Key", key)]
        if version_id is not None:
            named.append(("VersionId", version_id))
        conditions = {header: text(item, name) for name, header in _CONDITIONS.items() if text(item, name, "")}
        try:
            done = plane.delete(request.bucket, key, version_id, conditions)
        except InvalidVersionError:
            # AWS answers so in a list; a DELETE of one object with this id is an invalid argument.
            error = S3Error("NoSuchVersion")
            results.append(("Error", [*named, ("Code", error.code), ("Message", error.message)]))
            continue
        except S3Error as error:
            results.append(("Error", [*named, ("Code", error.code), ("Message", error.message)]))
            continue
        deleted = named
        if "x-amz-delete-marker" in done:
            deleted += [
                ("DeleteMarker", True),
                ("DeleteMarkerVersionId", done["x-amz-version-id"]),
            ]
        if not quiet:
            results.append(("Deleted", deleted))
    return xml_answer("DeleteResult", results)


def _refuse_bypass(request: Request) -> None:
    if _BYPASS in request.fields:
        # No bucket here has Object Lock.
        raise invalid_argument(f"{_BYPASS} is only applicable to Object Lock enabled buckets.", _BYPASS, None)
