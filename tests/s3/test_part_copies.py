"""UploadPartCopy: ranges, conditions, and the checksums of composed objects, as AWS answers.

Source: the answers that LocalStack recorded from AWS (`test_s3_api.snapshot.json`: `TestS3Multipart`;
`test_s3.snapshot.json`: `test_multipart_upload_part_copy_checksum`).
"""

import hashlib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from broker.dev.s3.checksums import ALGORITHMS
from tests.s3.multipart import PART, REST, checksum, elements, nested, refusal

FORM = (
    "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based "
    "offsets of the first and last bytes to copy"
)
TEN_BYTES = b"0123456789"
LONG_AGO = format_datetime(datetime(2020, 1, 1, tzinfo=UTC), usegmt=True)
LATER = format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)


def md5(data):
    """Return the ETag of bytes."""
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


@pytest.fixture
def created(multipart_upload, s3_client):
    """Store ten bytes at `source`, and create an upload."""
    s3_client.put_object(Bucket=multipart_upload.requests.bucket, Key="source", Body=TEN_BYTES)
    multipart_upload.create()
    return multipart_upload


@pytest.mark.parametrize(
    ("asked", "copied"),
    [
        ("bytes=0-8", b"012345678"),
        ("bytes=1-1", b"1"),
        ("bytes=0-0", b"0"),
        ("bytes=9-9", b"9"),
        ("bytes=0-9", TEN_BYTES),
    ],
)
def test_a_range_is_copied(asked, copied, created):
    response = created.copy(1, "source", copy_source_range=asked)
    assert (response.status_code, elements(response)["ETag"]) == (200, md5(copied))
    assert [part["Size"] for part in nested(created.list_parts(), "Part")] == [str(len(copied))]
    assert created.complete(created.listed).status_code == 200
    assert created.get().content == copied


@pytest.mark.parametrize(
    "asked",
    [
        "0-8",
        "bytes=1-0",
        "bytes=-1-",
        "bytes=0--1",
        "bytes=0-1,3-4,7-9",
        "bytes=-",
        "bytes=-0",
        "bytes=1-",
        "bytes=-2",
        "bytes=-15",
        "bytes=0",
        "bytes=hello-world",
        "bytes=0-bar",
        "items=0-1",
    ],
)
def test_an_ill_formed_range_is_refused(asked, created):
    response = created.copy(1, "source", copy_source_range=asked)
    found = elements(response)
    assert (refusal(response), found["Message"]) == ((400, "InvalidArgument"), FORM)
    assert (found["ArgumentName"], found["ArgumentValue"]) == ("x-amz-copy-source-range", asked)
    assert nested(created.list_parts(), "Part") == []


@pytest.mark.parametrize("asked", ["bytes=0-100", "bytes=0-10", "bytes=9-10"])
def test_a_range_past_the_end_is_refused(asked, created):
    response = created.copy(1, "source", copy_source_range=asked)
    found = elements(response)
    assert refusal(response) == (400, "InvalidArgument")
    assert found["Message"] == "Range specified is not valid for source object of size: 10"
    assert (found["ArgumentName"], found["ArgumentValue"]) == ("x-amz-copy-source-range", asked)
    assert nested(created.list_parts(), "Part") == []


@pytest.mark.parametrize("asked", ["bytes=100-200", "bytes=10-10"])
def test_a_range_outside_is_refused(asked, created):
    response = created.copy(1, "source", copy_source_range=asked)
    assert (refusal(response), elements(response)["Message"]) == (
        (400, "InvalidRequest"),
        "The specified copy range is invalid for the source object size",
    )
    assert nested(created.list_parts(), "Part") == []


@pytest.mark.parametrize(
    ("conditions", "failed"),
    [
        ({"match": md5(TEN_BYTES)}, None),
        ({"match": md5(TEN_BYTES).strip('"')}, None),
        ({"match": md5(b"other")}, "Match"),
        ({"none-match": md5(b"other")}, None),
        ({"none-match": md5(TEN_BYTES)}, "None-Match"),
        ({"unmodified-since": LATER}, None),
        ({"unmodified-since": LONG_AGO}, "Unmodified-Since"),
        ({"modified-since": LONG_AGO}, None),
        ({"match": md5(TEN_BYTES), "unmodified-since": LONG_AGO}, None),
        ({"none-match": md5(b"other"), "unmodified-since": LONG_AGO}, "Unmodified-Since"),
    ],
)
def test_the_conditions_of_the_source(conditions, failed, created):
    headers = {f"copy_source_if_{name}": value for name, value in conditions.items()}
    response = created.copy(1, "source", **headers)
    if failed is None:
        assert (response.status_code, elements(response)["ETag"]) == (200, md5(TEN_BYTES))
    else:
        condition = elements(response)["Condition"]
        assert (refusal(response), condition) == ((412, "PreconditionFailed"), f"x-amz-copy-source-If-{failed}")
    assert len(nested(created.list_parts(), "Part")) == (failed is None)


@pytest.mark.parametrize(
    ("source", "expected"), [("absent", (404, "NoSuchKey")), ("source?versionId=x", (404, "NoSuchKey"))]
)
def test_an_absent_source_is_refused(source, expected, created):
    assert refusal(created.copy(1, source)) == expected


def test_an_upload_that_is_gone_takes_no_copy(created):
    assert created.abort().status_code == 204
    assert refusal(created.copy(1, "source")) == (404, "NoSuchUpload")


def test_a_copy_answers_no_checksum_unasked(created):
    response = created.copy(1, "source")
    assert elements(response).keys() == {"LastModified", "ETag"}
    assert nested(created.list_parts(), "Part")[0].keys() == {"PartNumber", "LastModified", "ETag", "Size"}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("asked", [{}, {"copy_source_range": "bytes=0-8"}], ids=["whole", "range"])
def test_a_copy_answers_the_checksum_by_the_uploads_algorithm(algorithm, asked, created):
    created.create(checksum_algorithm=algorithm)
    copied = TEN_BYTES[:9] if asked else TEN_BYTES
    answer = elements(created.copy(1, "source", **asked))
    assert answer.keys() == {"LastModified", "ETag", f"Checksum{algorithm}"}
    assert answer[f"Checksum{algorithm}"] == checksum(algorithm, copied)
    assert created.complete().status_code == 200
    assert created.get().content == copied


@pytest.mark.parametrize("algorithm", ["CRC64NVME", "CRC32", "CRC32C", ""])
@pytest.mark.parametrize("source_algorithm", ["CRC64NVME", "SHA256"])
def test_an_object_composed_of_copies_has_a_checksum_of_its_bytes(
    algorithm, source_algorithm, multipart_upload, s3_client
):
    bucket = multipart_upload.requests.bucket
    for key, body in (("1", PART), ("2", PART[::-1] + b"c"), ("3", REST)):
        s3_client.put_object(Bucket=bucket, Key=key, Body=body, ChecksumAlgorithm=source_algorithm)
    asked = {"checksum_algorithm": algorithm, "checksum_type": "FULL_OBJECT"} if algorithm else {}
    multipart_upload.create(**asked)
    # The parts may arrive in any order.
    for number in (3, 1, 2):
        assert multipart_upload.copy(number, str(number)).status_code == 200
    parts = sorted(multipart_upload.bare(), key=lambda part: part["PartNumber"])
    composed, name = PART + PART[::-1] + b"c" + REST, algorithm or "CRC64NVME"
    declared = {f"checksum_{name.lower()}": checksum(name, composed)}
    if algorithm:
        declared |= {"checksum_type": "FULL_OBJECT"}
    answer = elements(
        multipart_upload.complete(parts, if_none_match="*", mp_object_size=str(len(composed)), **declared)
    )
    assert (answer["ChecksumType"], answer[f"Checksum{name}"]) == ("FULL_OBJECT", checksum(name, composed))
    digests = b"".join(hashlib.md5(body, usedforsecurity=False).digest() for body in (PART, PART[::-1] + b"c", REST))
    assert answer["ETag"] == f'"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-3"'
    assert multipart_upload.get().content == composed


def test_a_wrong_crc64nvme_of_a_composed_object_is_refused(created):
    created.create(checksum_algorithm="CRC64NVME")
    created.copy(1, "source")
    refused = created.complete(checksum_crc64nvme=checksum("CRC64NVME", b"other"))
    assert refusal(refused) == (400, "BadDigest")
    assert created.head().status_code == 404


def test_a_part_keeps_the_bytes_of_a_source_that_is_replaced_and_deleted(created, s3_client):
    bucket = created.requests.bucket
    created.copy(1, "source")
    s3_client.put_object(Bucket=bucket, Key="source", Body=b"replaced")
    s3_client.delete_object(Bucket=bucket, Key="source")
    assert created.complete(created.listed).status_code == 200
    assert created.get().content == TEN_BYTES


def test_an_abandoned_copy_leaves_its_source(created, s3_client):
    created.copy(1, "source")
    created.copy(1, "source")
    assert created.abort().status_code == 204
    stored = s3_client.get_object(Bucket=created.requests.bucket, Key="source")["Body"].read()
    assert stored == TEN_BYTES


def test_a_multipart_object_can_be_copied_as_a_part(multipart_upload):
    multipart_upload.create()
    for number, body in enumerate((PART, REST), 1):
        multipart_upload.part(number, body)
    multipart_upload.complete(multipart_upload.bare())
    source, multipart_upload.key = multipart_upload.key, "copy"
    multipart_upload.create()
    # The ETag of the source is no MD5: the part gets the MD5 of its bytes.
    assert elements(multipart_upload.copy(1, source))["ETag"] == md5(PART + REST)
    assert multipart_upload.complete().status_code == 200
    assert multipart_upload.get().content == PART + REST


def test_the_copied_version_is_named(requests, multipart_upload, make_bucket, s3_client):
    requests.bucket = make_bucket(versioned=True)
    first = s3_client.put_object(Bucket=requests.bucket, Key="source", Body=TEN_BYTES)["VersionId"]
    s3_client.put_object(Bucket=requests.bucket, Key="source", Body=REST)
    multipart_upload.create()
    source = f"{requests.bucket}/source?versionId={first}"
    query = f"partNumber=1&uploadId={multipart_upload.id}"
    response = multipart_upload.send("PUT", query, {"x-amz-copy-source": source})
    found = elements(response)["ETag"], response.headers["x-amz-copy-source-version-id"]
    assert found == (md5(TEN_BYTES), first)


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA256"])
def test_copy_object_of_a_composite_object_computes_its_checksum_anew(algorithm, multipart_upload, s3_client):
    bucket = multipart_upload.requests.bucket
    multipart_upload.create(checksum_algorithm=algorithm)
    for number, body in enumerate((PART, REST), 1):
        multipart_upload.part(number, body, **{f"checksum_{algorithm.lower()}": checksum(algorithm, body)})
    multipart_upload.complete()
    result = s3_client.copy_object(
        Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": multipart_upload.key}
    )["CopyObjectResult"]
    assert (result["ETag"], result["ChecksumType"]) == (md5(PART + REST), "FULL_OBJECT")
    assert result[f"Checksum{algorithm}"] == checksum(algorithm, PART + REST)
