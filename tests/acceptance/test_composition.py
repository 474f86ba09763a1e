"""Composition of an object from parts that are objects themselves: the operations behind resumable uploads."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import md5
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.acceptance.forms import Upload

MIB = 1024 * 1024


def etag(content: bytes) -> str:
    return f'"{md5(content, usedforsecurity=False).hexdigest()}"'


@dataclass
class Composition:
    """A multipart upload whose parts are copies of staged objects."""

    upload: Upload
    contents: list[bytes]
    upload_id: str
    parts: list[dict[str, Any]] = field(default_factory=list)

    @property
    def key(self) -> str:
        """Return the key of the composed object."""
        return f"{self.upload.prefix}final.mp4"

    def copy(self, number: int, if_match: str) -> None:
        """Copy one staged object into its part, if the object still has this ETag."""
        s3 = self.upload.s3
        answer = s3.client.upload_part_copy(
            Bucket=s3.bucket,
            Key=self.key,
            UploadId=self.upload_id,
            PartNumber=number,
            CopySource=f"{s3.bucket}/{self.upload.prefix}{number}",
            CopySourceIfMatch=if_match,
        )
        self.parts.append({"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]})

    def copy_all(self) -> None:
        """Copy all staged objects."""
        for number, content in enumerate(self.contents, 1):
            self.copy(number, etag(content))

    def complete(self, *, if_none_match: bool = True) -> dict[str, Any]:
        """Complete the upload, by default only if no object has the key."""
        s3 = self.upload.s3
        answer: dict[str, Any] = s3.client.complete_multipart_upload(
            Bucket=s3.bucket,
            Key=self.key,
            UploadId=self.upload_id,
            MultipartUpload={"Parts": self.parts},
            **({"IfNoneMatch": "*"} if if_none_match else {}),
        )
        return answer


@pytest.fixture
def composition(upload: Upload) -> Iterator[Composition]:
    """Return a composition of two staged objects, without any parts yet. It is aborted afterwards."""
    s3, contents = upload.s3, [os.urandom(5 * MIB), os.urandom(1000)]
    for number, content in enumerate(contents, 1):
        s3.client.put_object(Bucket=s3.bucket, Key=f"{upload.prefix}{number}", Body=content)
    key = f"{upload.prefix}final.mp4"
    created = s3.client.create_multipart_upload(Bucket=s3.bucket, Key=key, ContentType="video/mp4")
    composition = Composition(upload, contents, created["UploadId"])
    yield composition
    if _upload_ids(composition):
        s3.client.abort_multipart_upload(Bucket=s3.bucket, Key=key, UploadId=composition.upload_id)


def test_a_composed_object_has_the_parts_in_order_and_the_type(composition: Composition) -> None:
    composition.copy_all()
    composition.complete()
    s3 = composition.upload.s3
    answer = s3.client.get_object(Bucket=s3.bucket, Key=composition.key)
    assert answer["ContentType"] == "video/mp4"
    assert answer["Body"].read() == b"".join(composition.contents)


def test_the_etag_of_a_copied_part_is_that_of_its_source(composition: Composition) -> None:
    composition.copy_all()
    assert [part["ETag"] for part in composition.parts] == [etag(content) for content in composition.contents]


def test_the_etag_of_a_composed_object_follows_from_its_parts(composition: Composition) -> None:
    composition.copy_all()
    composition.complete()
    digests = b"".join(md5(content, usedforsecurity=False).digest() for content in composition.contents)
    head = composition.upload.s3.head(composition.key)
    assert head is not None
    assert head["ETag"] == f'{etag(digests)[:-1]}-2"'


def test_a_part_is_not_copied_from_an_object_with_another_etag(composition: Composition) -> None:
    assert _refusal(lambda: composition.copy(1, etag(b"another video"))) == (412, "PreconditionFailed")
    assert composition.parts == []


def test_a_composition_does_not_replace_an_object(composition: Composition) -> None:
    s3 = composition.upload.s3
    s3.client.put_object(Bucket=s3.bucket, Key=composition.key, Body=b"another video")
    composition.copy_all()
    # AWS answers 409 if the object was written after the multipart upload was created.
    assert _refusal(composition.complete) in {(412, "PreconditionFailed"), (409, "ConditionalRequestConflict")}
    assert s3.client.get_object(Bucket=s3.bucket, Key=composition.key)["Body"].read() == b"another video"


def test_the_answer_to_a_completion_has_the_etag_of_the_object(composition: Composition) -> None:
    composition.copy_all()
    answer = composition.complete(if_none_match=False)
    head = composition.upload.s3.head(composition.key)
    assert head is not None
    assert answer["ETag"] == head["ETag"]


def test_a_completion_may_be_sent_again(composition: Composition) -> None:
    composition.copy_all()
    composition.complete(if_none_match=False)
    s3 = composition.upload.s3
    first = s3.head(composition.key)
    assert _refusal(lambda: composition.complete(if_none_match=False)) is None
    second = s3.head(composition.key)
    assert first is not None
    assert second is not None
    assert (first["ETag"], first["LastModified"]) == (second["ETag"], second["LastModified"])


def test_an_aborted_composition_leaves_nothing(composition: Composition) -> None:
    composition.copy_all()
    s3 = composition.upload.s3
    assert _upload_ids(composition) == [composition.upload_id]
    s3.client.abort_multipart_upload(Bucket=s3.bucket, Key=composition.key, UploadId=composition.upload_id)
    assert _upload_ids(composition) == []
    assert s3.head(composition.key) is None
    assert _refusal(composition.complete) == (404, "NoSuchUpload")


def _upload_ids(composition: Composition) -> list[str]:
    """Return the ids of the multipart uploads of the composition's key that are in progress."""
    s3 = composition.upload.s3
    listing = s3.client.list_multipart_uploads(Bucket=s3.bucket, Prefix=composition.key)
    return [entry["UploadId"] for entry in listing.get("Uploads", [])]


def _refusal(request: Callable[[], object]) -> tuple[int, str] | None:
    """Return the status and the code of S3's refusal, or None if S3 carries out the request."""
    try:
        request()
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
    return None
