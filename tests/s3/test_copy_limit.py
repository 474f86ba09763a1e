"""The size limit of a source that one request copies whole, 5 GiB.

Source: Amazon S3 API Reference, "CopyObject"; Amazon S3 User Guide, "Amazon S3 multipart upload limits".
"""

import hashlib
import os

import pytest
from botocore.exceptions import ClientError

from broker.dev.s3 import start_embedded_s3
from broker.dev.s3.checksums import DEFAULT_ALGORITHM
from broker.dev.s3.disk import Disk
from broker.dev.s3.objects import NULL_VERSION, ObjectStore, ObjectVersion
from tests.support.s3_clients import client_of

LIMIT = 5 * 1024**3
SIZES = {"largest": LIMIT, "larger": LIMIT + 1}
TOO_LARGE = (
    400,
    "InvalidRequest",
    "The specified copy source is larger than the maximum allowable size for a copy source: 5368709120",
)


@pytest.fixture
def s3(tmp_path):
    """Run an embedded S3 that holds the sources as sparse files with made-up digests; return a client."""
    store = ObjectStore(Disk(tmp_path))
    for sequence, (key, size) in enumerate(SIZES.items(), 1):
        version = ObjectVersion(
            key,
            NULL_VERSION,
            sequence,
            "2024-01-01T00:00:00+00:00",
            size=size,
            etag="0" * 32,
            checksums={DEFAULT_ALGORITHM: "AAAAAAAAAAA="},
        )
        with store.scratch() as path:
            path.touch()
            os.truncate(path, size)
            store.add("films", version, path, versioned=False)
    with start_embedded_s3(data_dir=tmp_path, buckets=["films"]) as server:
        yield client_of(server)


@pytest.fixture
def upload(s3):
    """Create a multipart upload, and return the arguments that name it."""
    named = {"Bucket": "films", "Key": "composed"}
    return named | {"UploadId": s3.create_multipart_upload(**named)["UploadId"]}


def refusal(call, **arguments):
    """Return the status, code and message of the refusal of a call."""
    with pytest.raises(ClientError) as raised:
        call(**arguments)
    answer = raised.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"], answer["Error"]["Message"]


def sizes(s3):
    return {entry["Key"]: entry["Size"] for entry in s3.list_objects_v2(Bucket="films")["Contents"]}


def part_sizes(s3, upload):
    return [part["Size"] for part in s3.list_parts(**upload).get("Parts", [])]


def test_a_source_above_the_limit_is_not_copied_whole(s3, upload):
    source = {"CopySource": "films/larger"}
    assert refusal(s3.copy_object, Bucket="films", Key="copy", **source) == TOO_LARGE
    assert refusal(s3.upload_part_copy, **upload, PartNumber=1, **source) == TOO_LARGE
    assert (sizes(s3), part_sizes(s3, upload)) == (SIZES, [])


def test_a_source_of_the_limit_is_copied_whole(s3, upload):
    source = {"CopySource": "films/largest"}
    s3.copy_object(Bucket="films", Key="copy", **source)
    s3.upload_part_copy(**upload, PartNumber=1, **source)
    assert (sizes(s3), part_sizes(s3, upload)) == (SIZES | {"copy": LIMIT}, [LIMIT])


def test_a_range_of_a_larger_source_is_copied(s3, upload):
    last = {"CopySource": "films/larger", "CopySourceRange": f"bytes={LIMIT}-{LIMIT}"}
    result = s3.upload_part_copy(**upload, PartNumber=1, **last)["CopyPartResult"]
    assert result["ETag"] == f'"{hashlib.md5(bytes(1), usedforsecurity=False).hexdigest()}"'
    assert part_sizes(s3, upload) == [1]
