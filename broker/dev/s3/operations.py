"""The operations of S3, by the requests that name them."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from starlette.responses import Response

from broker.dev.s3 import (
    bucket_configuration,
    copy,
    listing,
    multipart_complete,
    multipart_upload,
    object_attributes,
    object_read,
    object_write,
    part_listing,
    tagging,
    unserved,
)
from broker.dev.s3.errors import S3Error, invalid_argument
from broker.dev.s3.payload import Payload
from broker.dev.s3.plane import Plane
from broker.dev.s3.request import Request

Operation: TypeAlias = Callable[[Plane, Request, Payload], Awaitable[Response]]

POST_OBJECT = "PostObject"
PREFLIGHT = "Preflight"
CONFIGURE = "ConfigureBucket"
OBJECT_LOCK = "ObjectLock"

OPERATIONS: dict[str, Operation] = {
    "GetObject": object_read.get_object,
    "HeadObject": object_read.head_object,
    "GetObjectAttributes": object_attributes.get_object_attributes,
    "PutObject": object_write.put_object,
    "DeleteObject": object_write.delete_object,
    "DeleteObjects": object_write.delete_objects,
    "CopyObject": copy.copy_object,
    "ListObjects": listing.list_objects,
    "ListObjectsV2": listing.list_objects_v2,
    "ListObjectVersions": listing.list_object_versions,
    "GetObjectTagging": tagging.get_object_tagging,
    "PutObjectTagging": tagging.put_object_tagging,
    "DeleteObjectTagging": tagging.delete_object_tagging,
    "CreateMultipartUpload": multipart_upload.create,
    "UploadPart": multipart_upload.upload_part,
    "UploadPartCopy": multipart_upload.upload_part_copy,
    "CompleteMultipartUpload": multipart_complete.complete,
    "AbortMultipartUpload": multipart_upload.abort,
    "ListParts": part_listing.list_parts,
    "ListMultipartUploads": part_listing.list_uploads,
    OBJECT_LOCK: unserved.object_lock,
    CONFIGURE: bucket_configuration.configure,
}
_UNSERVED = frozenset({"acl", "restore", "select", "torrent"})


def operation_name(request: Request) -> str:
    """Return the name of a request's operation in the Amazon S3 API Reference."""
    if request.method == "OPTIONS":
        return PREFLIGHT
    return _object_operation(request) if request.key else _bucket_operation(request)


def _object_operation(request: Request) -> str:
    params = request.params
    if unserved := _UNSERVED & params.keys():
        raise S3Error("NotImplemented", Header=", ".join(unserved))
    if {"legal-hold", "retention"} & params.keys():
        return OBJECT_LOCK
    if "attributes" in params and request.method != "GET":
        raise S3Error("NotImplemented", Header="attributes")
    copies = "x-amz-copy-source" in request.headers
    match request.method:
        case "GET" if "attributes" in params:
            return "GetObjectAttributes"
        case "GET" if "uploadId" in params:
            return "ListParts"
        case "PUT" if "partNumber" in params and "uploadId" not in params:
            raise invalid_argument(
                "This operation does not accept partNumber without uploadId", "partNumber", params["partNumber"]
            )
        case "PUT" if "uploadId" in params:
            return "UploadPartCopy" if copies else "UploadPart"
        case "POST" if "uploadId" in params:
            return "CompleteMultipartUpload"
        case "POST" if "uploads" in params:
            return "CreateMultipartUpload"
        case "DELETE" if "uploadId" in params:
            return "AbortMultipartUpload"
        case "GET" | "PUT" | "DELETE" if "tagging" in params:
            return f"{request.method.capitalize()}ObjectTagging"
        case "PUT" if copies:
            return "CopyObject"
        case "GET" | "HEAD" | "PUT" | "DELETE":
            return f"{request.method.capitalize()}Object"
    raise S3Error("MethodNotAllowed", Method=request.method, ResourceType="OBJECT")


def _bucket_operation(request: Request) -> str:
    params = request.params
    if not request.bucket or bucket_configuration.subresource(request) is not None:
        return CONFIGURE
    match request.method:
        case "POST" if "delete" in params:
            return "DeleteObjects"
        case "POST":
            return POST_OBJECT
        case "GET" if "versions" in params:
            return "ListObjectVersions"
        case "GET" if "uploads" in params:
            return "ListMultipartUploads"
        case "GET" if params.get("list-type") == "2":
            return "ListObjectsV2"
        case "GET":
            return "ListObjects"
        case "PUT" | "DELETE" | "HEAD":
            return CONFIGURE
    raise S3Error("MethodNotAllowed", Method=request.method, ResourceType="BUCKET")
