"""The lists of multipart uploads under way, and of their parts.

Source: Amazon S3 API Reference, "ListParts" and "ListMultipartUploads".
"""

from starlette.responses import Response

from broker.dev.s3.answers import Content, xml_answer
from broker.dev.s3.payload import Payload
from broker.dev.s3.plane import Plane
from broker.dev.s3.request import Request


async def list_parts(plane: Plane, request: Request, payload: Payload) -> Response:
    """List the parts of an upload."""
    upload = plane.find_upload(request)
    content: list[tuple[str, Content]] = [
        ("Bucket", upload.bucket),
        ("Key", upload.key),
        ("UploadId", upload.id),
        ("IsTruncated", False),
    ]
    for _, part in sorted(upload.parts.items()):
        facts_of_part: list[tuple[str, Content]] = [
            ("PartNumber", part.number),
            ("LastModified", part.modified_at),
            ("ETag", f'"{part.etag}"'),
            ("Size", part.size),
            (f"Checksum{upload.algorithm}", part.checksum),
        ]
        content.append(("Part", facts_of_part))
    return xml_answer("ListPartsResult", content)


async def list_uploads(plane: Plane, request: Request, payload: Payload) -> Response:
    """List a bucket's uploads that are under way."""
    plane.services.bucket(request.bucket)
    prefix = request.params.get("prefix", "")
    content: list[tuple[str, Content]] = [("Bucket", request.bucket), ("IsTruncated", False)]
    for upload in sorted(plane.uploads.values(), key=lambda upload: (upload.key, upload.started_at)):
        if upload.bucket == request.bucket and upload.key.startswith(prefix):
            entry: list[tuple[str, Content]] = [
                ("Key", upload.key),
                ("UploadId", upload.id),
                ("Initiated", upload.started_at),
            ]
            content.append(("Upload", entry))
    return xml_answer("ListMultipartUploadsResult", content)
