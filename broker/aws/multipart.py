"""S3's multipart uploads, as the composition of an object from staged parts needs them.

Sources: Amazon S3 API Reference, "CreateMultipartUpload", "UploadPartCopy", "CompleteMultipartUpload", "ListParts",
"ListMultipartUploads", "AbortMultipartUpload" and "ListObjectsV2".
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple
from xml.sax.saxutils import escape

from broker.aws.client import Absent, Answer, Call
from broker.domain.keys import part_number_of
from broker.domain.parts import StoredPart, is_md5
from broker.domain.s3.sigv4 import uri_encode

PAGE = 1000
"""The number of entries of one page, S3's largest."""
MAX_ABORTS = 100
"""The number of multipart uploads that one turn aborts."""


class Copied(NamedTuple):
    """The ETag of a copied part. It is comparable with that of its source unless it is no MD5 of the bytes."""

    etag: str
    comparable: bool


class Multipart:
    """Compose objects of one bucket. Every method raises StorageUnavailable and StorageRefused."""

    def __init__(self, bucket_name: str, call: Call, headers: Mapping[str, str]) -> None:
        """`headers` are those of every composed object, such as its storage class."""
        self._bucket_name = bucket_name
        self._headers = headers
        self._call = call

    async def staged(self, prefix: str, *, after: str = "", limit: int | None = None) -> list[StoredPart]:
        """Return the parts that are stored under `prefix`, in order, from behind the key `after`; at most `limit`."""
        parts: list[StoredPart] = []
        query = {"list-type": "2", "prefix": prefix}
        if after:
            query["start-after"] = after
        while limit is None or len(parts) < limit:
            query["max-keys"] = str(PAGE if limit is None else min(PAGE, limit - len(parts)))
            answer = await self._call("list_objects_v2", "GET", query=query, has_result=True)
            listing = answer.xml()
            for entry in listing.iterfind("Contents"):
                number = part_number_of(entry.findtext("Key") or "")
                if number is not None:
                    etag = (entry.findtext("ETag") or "").strip('"')
                    parts.append(StoredPart(number, int(entry.findtext("Size") or 0), etag))
            if listing.findtext("IsTruncated") != "true":
                break
            query["continuation-token"] = listing.findtext("NextContinuationToken") or ""
        return parts

    async def create(self, key: str, content_type: str) -> str:
        """Begin a multipart upload to `key` and return its id. S3 is to keep the CRC64NVME of the whole object."""
        answer = await self._call(
            "create_multipart_upload",
            "POST",
            key,
            query={"uploads": ""},
            headers={
                "content-type": content_type,
                "x-amz-checksum-algorithm": "CRC64NVME",
                "x-amz-checksum-type": "FULL_OBJECT",
                **self._headers,
            },
            has_result=True,
        )
        return answer.xml().findtext("UploadId") or ""

    async def copy(self, key: str, upload_id: str, number: int, source: str, etag: str) -> Copied:
        """Copy a staged object into one part, if it still has this ETag. Raises PreconditionFailed and Absent."""
        answer = await self._call(
            "upload_part_copy",
            "PUT",
            key,
            query={"partNumber": str(number), "uploadId": upload_id},
            headers={
                "x-amz-copy-source": uri_encode(f"{self._bucket_name}/{source}", safe="/"),
                "x-amz-copy-source-if-match": f'"{etag}"',
            },
            has_result=True,
            is_copy=True,
        )
        copied = (answer.xml().findtext("ETag") or "").strip('"')
        return Copied(copied, comparable=is_md5(copied) and is_md5(etag) and not is_opaque(answer))

    async def copied(self, key: str, upload_id: str) -> dict[int, str] | None:
        """Return the ETags of the parts of a multipart upload, by number, or None if there is no such upload."""
        etags: dict[int, str] = {}
        query = {"uploadId": upload_id, "max-parts": str(PAGE)}
        while True:
            try:
                answer = await self._call("list_parts", "GET", key, query=query, has_result=True)
            except Absent:
                return None
            listing = answer.xml()
            for part in listing.iterfind("Part"):
                etags[int(part.findtext("PartNumber") or 0)] = (part.findtext("ETag") or "").strip('"')
            if listing.findtext("IsTruncated") != "true":
                return etags
            query["part-number-marker"] = listing.findtext("NextPartNumberMarker") or ""

    async def complete(self, key: str, upload_id: str, etags: list[str]) -> None:
        """Make the object of the parts with these ETags, which are numbered from 1, unless there is one already.

        Raises PreconditionFailed if an object is there, Absent if the upload is not, and StorageRefused with the code
        InvalidPart if a part has another ETag.
        """
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>&quot;{escape(etag)}&quot;</ETag></Part>"
            for number, etag in enumerate(etags, 1)
        )
        namespace = "http://s3.amazonaws.com/doc/2006-03-01/"
        await self._call(
            "complete_multipart_upload",
            "POST",
            key,
            query={"uploadId": upload_id},
            headers={"content-type": "application/xml", "if-none-match": "*"},
            body=f'<CompleteMultipartUpload xmlns="{namespace}">{parts}</CompleteMultipartUpload>'.encode(),
            has_result=True,
            is_copy=True,
        )

    async def abort(self, key: str, upload_id: str) -> None:
        """End a multipart upload and remove its parts; one that is gone is no error."""
        with suppress(Absent):
            await self._call("abort_multipart_upload", "DELETE", key, query={"uploadId": upload_id})

    async def abort_all(self, prefix: str) -> bool:
        """Abort the multipart uploads to keys with `prefix`, MAX_ABORTS in a turn; return whether none is left.

        This also finds uploads whose id was never recorded, because their creator crashed or S3 created them late.
        """
        answer = await self._call(
            "list_multipart_uploads",
            "GET",
            query={"max-uploads": str(MAX_ABORTS), "prefix": prefix, "uploads": ""},
            has_result=True,
        )
        listing = answer.xml()
        for upload in listing.iterfind("Upload"):
            await self.abort(upload.findtext("Key") or "", upload.findtext("UploadId") or "")
        return listing.findtext("IsTruncated") != "true"


def is_opaque(answer: Answer) -> bool:
    """Return whether the ETag is no MD5 of the bytes (Amazon S3 API Reference, "Object", ETag)."""
    encryption = answer.headers.get("x-amz-server-side-encryption", "AES256")
    return encryption != "AES256" or "x-amz-server-side-encryption-customer-algorithm" in answer.headers
