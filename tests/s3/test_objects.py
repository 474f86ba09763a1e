"""Reads, conditions, copies, deletions, versions and lists of the embedded S3."""

import base64
import hashlib
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from botocore.exceptions import ClientError

from tests.s3.forms import TEN_BYTES, error_code

LONG_AGO, LATER = datetime(2020, 1, 1, tzinfo=UTC), datetime.now(UTC) + timedelta(days=1)
OTHER = '"00000000000000000000000000000000"'


@pytest.fixture
def etag(s3_client, bucket):
    """Store ten bytes at `a`, and return their ETag."""
    return s3_client.put_object(Bucket=bucket, Key="a", Body=TEN_BYTES, ContentType="video/mp4")["ETag"]


def refused(call, **arguments):
    """Return status and code of the refusal of a call."""
    with pytest.raises(ClientError) as raised:
        call(**arguments)
    answer = raised.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


@pytest.mark.parametrize("algorithm", ["aws:kms", "aws:kms:dsse"])
def test_an_etag_under_kms_is_no_md5_and_a_copy_has_its_own(algorithm, s3_client, bucket, etag):
    under_kms = {"Bucket": bucket, "ServerSideEncryption": algorithm}
    put = s3_client.put_object(Key="k", Body=TEN_BYTES, ChecksumAlgorithm="SHA256", **under_kms)
    assert put["ETag"] != etag
    head = s3_client.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert (head["ETag"], head["ChecksumSHA256"]) == (put["ETag"], put["ChecksumSHA256"])
    known = {"CopySource": f"{bucket}/k", "CopySourceIfMatch": put["ETag"], "MetadataDirective": "REPLACE"}
    copied = s3_client.copy_object(Key="copy", **known, **under_kms)["CopyObjectResult"]
    assert copied["ETag"] not in {put["ETag"], etag}
    assert copied["ChecksumSHA256"] == put["ChecksumSHA256"]
    # Under S3's own keys the ETag of the same bytes is their MD5 again.
    assert s3_client.copy_object(Bucket=bucket, Key="plain", **known)["CopyObjectResult"]["ETag"] == etag


@pytest.mark.parametrize(
    ("asked", "body", "content_range"),
    [
        ("bytes=0-3", b"0123", "bytes 0-3/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-2", b"89", "bytes 8-9/10"),
        ("bytes=0-99", TEN_BYTES, "bytes 0-9/10"),
        ("bytes=-99", TEN_BYTES, "bytes 0-9/10"),
    ],
)
def test_a_range_is_answered_with_206(asked, body, content_range, etag, requests):
    response = httpx.get(requests.presign(), headers={"Range": asked})
    assert (response.status_code, response.content) == (206, body)
    assert response.headers["content-range"] == content_range
    assert response.headers["content-length"] == str(len(body))


@pytest.mark.parametrize("asked", ["bytes=5-2", "bytes=0-1,3-4", "items=0-1", "bytes=a-b"])
def test_what_is_no_single_range_means_the_whole_object(asked, etag, requests):
    response = httpx.get(requests.presign(), headers={"Range": asked})
    assert (response.status_code, response.content) == (200, TEN_BYTES)


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=99-100", "bytes=-0"])
def test_a_range_outside_is_refused(asked, etag, requests):
    response = httpx.get(requests.presign(), headers={"Range": asked})
    assert (response.status_code, error_code(response)) == (416, "InvalidRange")
    assert response.headers["content-range"] == "bytes */10"


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        ({"If-Match": "ETAG"}, 200),
        ({"If-Match": OTHER}, 412),
        ({"If-None-Match": "ETAG"}, 304),
        ({"If-None-Match": OTHER}, 200),
        ({"If-Modified-Since": f"{LONG_AGO:%a, %d %b %Y %H:%M:%S GMT}"}, 200),
        ({"If-Modified-Since": "MODIFIED"}, 304),
        ({"If-Modified-Since": f"{LATER:%a, %d %b %Y %H:%M:%S GMT}"}, 200),
        ({"If-Unmodified-Since": f"{LONG_AGO:%a, %d %b %Y %H:%M:%S GMT}"}, 412),
        ({"If-Unmodified-Since": f"{LATER:%a, %d %b %Y %H:%M:%S GMT}"}, 200),
        ({"If-Match": "ETAG", "If-Unmodified-Since": "Wed, 01 Jan 2020 00:00:00 GMT"}, 200),
        ({"If-None-Match": OTHER, "If-Modified-Since": f"{LATER:%a, %d %b %Y %H:%M:%S GMT}"}, 200),
    ],
)
def test_a_conditional_read_answers(condition, status, etag, requests):
    modified = httpx.get(requests.presign()).headers["last-modified"]
    headers = {name: value.replace("ETAG", etag).replace("MODIFIED", modified) for name, value in condition.items()}
    for method in ("GET", "HEAD"):
        response = httpx.request(method, requests.presign(method=method), headers=headers)
        assert response.status_code == status
        if status == 304:
            assert (response.content, response.headers["etag"]) == (b"", etag)


def test_a_signed_url_sets_the_answers_headers(etag, s3_client, bucket):
    wanted = {
        "Content-Type": "text/plain",
        "Content-Disposition": "attachment; filename=\"a.mp4\"; filename*=UTF-8''%C3%BC.mp4",
        "Cache-Control": "no-store",
        "Content-Language": "de",
        "Content-Encoding": "identity",
        "Expires": "Wed, 01 Jan 2020 00:00:00 GMT",
    }
    overrides = {f"Response{name.replace('-', '')}": value for name, value in wanted.items()}
    url = s3_client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a"} | overrides)
    headers = httpx.get(url).headers
    assert {name: headers[name] for name in wanted} == wanted


def test_a_missing_object_is_404(s3_client, bucket):
    assert refused(s3_client.get_object, Bucket=bucket, Key="none") == (404, "NoSuchKey")
    assert refused(s3_client.head_object, Bucket=bucket, Key="none") == (404, "404")
    assert refused(s3_client.get_object, Bucket="no-such-bucket-1", Key="a") == (404, "NoSuchBucket")


def test_a_copy_keeps_bytes_facts_and_checksum(etag, s3_client, bucket):
    source = s3_client.head_object(Bucket=bucket, Key="a", ChecksumMode="ENABLED")
    result = s3_client.copy_object(
        Bucket=bucket, Key="b", CopySource={"Bucket": bucket, "Key": "a"}, CopySourceIfMatch=etag
    )["CopyObjectResult"]
    copied = s3_client.get_object(Bucket=bucket, Key="b", ChecksumMode="ENABLED")
    assert copied["Body"].read() == TEN_BYTES
    assert result["ETag"] == copied["ETag"] == etag
    assert copied["ContentType"] == "video/mp4"
    assert copied["ChecksumCRC32"] == source["ChecksumCRC32"] == result["ChecksumCRC32"]


def test_a_copy_can_be_given_other_facts_and_another_checksum(etag, s3_client, bucket):
    s3_client.copy_object(
        Bucket=bucket,
        Key="b",
        CopySource=f"{bucket}/a",
        MetadataDirective="REPLACE",
        ContentType="video/webm",
        Metadata={"owner": "u"},
        ChecksumAlgorithm="SHA256",
    )
    copied = s3_client.head_object(Bucket=bucket, Key="b", ChecksumMode="ENABLED")
    assert (copied["ContentType"], copied["Metadata"]) == ("video/webm", {"owner": "u"})
    assert copied["ChecksumSHA256"] == base64.b64encode(hashlib.sha256(TEN_BYTES).digest()).decode()


@pytest.mark.parametrize(
    ("condition", "refusal"),
    [
        ({"CopySourceIfMatch": OTHER}, (412, "PreconditionFailed")),
        ({"CopySourceIfNoneMatch": "ETAG"}, (412, "PreconditionFailed")),
        ({"CopySourceIfModifiedSince": "MODIFIED"}, (412, "PreconditionFailed")),
        ({"CopySourceIfUnmodifiedSince": LONG_AGO}, (412, "PreconditionFailed")),
        ({"IfNoneMatch": "*", "Key": "there"}, (412, "PreconditionFailed")),
        ({"IfMatch": OTHER, "Key": "there"}, (412, "PreconditionFailed")),
        ({"IfMatch": "ETAG"}, (404, "NoSuchKey")),
        ({"CopySource": "BUCKET/none"}, (404, "NoSuchKey")),
        ({"CopySource": "no-such-bucket-1/a"}, (404, "NoSuchBucket")),
        ({"Key": "a"}, (400, "InvalidRequest")),
        ({"MetadataDirective": "MERGE"}, (400, "InvalidArgument")),
    ],
)
def test_a_copy_is_refused_and_changes_nothing(condition, refusal, etag, s3_client, bucket, stored):
    s3_client.put_object(Bucket=bucket, Key="there", Body=b"there")
    arguments = {"Bucket": bucket, "Key": "b", "CopySource": f"{bucket}/a"} | condition
    if "CopySourceIfModifiedSince" in condition:
        arguments["CopySourceIfModifiedSince"] = s3_client.head_object(Bucket=bucket, Key="a")["LastModified"]
    arguments = {
        name: value.replace("ETAG", etag).replace("BUCKET", bucket) if isinstance(value, str) else value
        for name, value in arguments.items()
    }
    assert refused(s3_client.copy_object, **arguments) == refusal
    assert stored() == ["a", "there"]
    assert s3_client.get_object(Bucket=bucket, Key="there")["Body"].read() == b"there"


def test_a_copy_onto_nothing_succeeds_again_after_a_delete(etag, s3_client, bucket):
    arguments = {"Bucket": bucket, "Key": "b", "CopySource": f"{bucket}/a", "IfNoneMatch": "*"}
    s3_client.copy_object(**arguments)
    assert refused(s3_client.copy_object, **arguments) == (412, "PreconditionFailed")
    s3_client.delete_object(Bucket=bucket, Key="b")
    s3_client.copy_object(**arguments)


@pytest.mark.parametrize(
    ("condition", "refusal"),
    [
        ({"IfNoneMatch": "*"}, (412, "PreconditionFailed")),
        ({"IfMatch": OTHER}, (412, "PreconditionFailed")),
        ({"IfMatch": "ETAG", "Key": "none"}, (404, "NoSuchKey")),
        ({"IfNoneMatch": "ETAG"}, (501, "NotImplemented")),
    ],
)
def test_a_put_is_refused_for_what_is_there(condition, refusal, etag, s3_client, bucket, stored):
    arguments = {"Bucket": bucket, "Key": "a", "Body": b"other"} | condition
    arguments = {n: v.replace("ETAG", etag) if isinstance(v, str) else v for n, v in arguments.items()}
    assert refused(s3_client.put_object, **arguments) == refusal
    assert stored() == ["a"]
    assert s3_client.get_object(Bucket=bucket, Key="a")["Body"].read() == TEN_BYTES


def test_a_delete_takes_a_condition(etag, s3_client, bucket, stored):
    delete = {"Bucket": bucket, "Key": "a"}
    assert refused(s3_client.delete_object, **delete, IfMatch=OTHER) == (412, "PreconditionFailed")
    assert stored() == ["a"]
    s3_client.delete_object(**delete, IfMatch=etag)
    assert stored() == []
    assert s3_client.delete_object(**delete)["ResponseMetadata"]["HTTPStatusCode"] == 204


def test_many_keys_are_deleted_at_once(s3_client, bucket, stored):
    for key in ("a", "b", "c&<"):
        s3_client.put_object(Bucket=bucket, Key=key)
    objects = [{"Key": "a"}, {"Key": "c&<"}, {"Key": "none"}]
    answer = s3_client.delete_objects(Bucket=bucket, Delete={"Objects": objects})
    assert [deleted["Key"] for deleted in answer["Deleted"]] == ["a", "c&<", "none"]
    assert stored() == ["b"]


def test_versions_outlive_a_replacement_and_a_delete(s3_client, make_bucket):
    bucket = make_bucket(versioned=True)
    first = s3_client.put_object(Bucket=bucket, Key="a", Body=b"first")["VersionId"]
    second = s3_client.put_object(Bucket=bucket, Key="a", Body=b"second")["VersionId"]
    marker = s3_client.delete_object(Bucket=bucket, Key="a")
    assert marker["DeleteMarker"]
    assert refused(s3_client.get_object, Bucket=bucket, Key="a") == (404, "NoSuchKey")
    for version, body in ((first, b"first"), (second, b"second")):
        got = s3_client.get_object(Bucket=bucket, Key="a", VersionId=version)
        assert (got["Body"].read(), got["VersionId"]) == (body, version)
    assert refused(s3_client.get_object, Bucket=bucket, Key="a", VersionId=marker["VersionId"]) == (
        405,
        "MethodNotAllowed",
    )
    assert refused(s3_client.get_object, Bucket=bucket, Key="a", VersionId="x" * 32) == (400, "InvalidArgument")
    s3_client.delete_object(Bucket=bucket, Key="a", VersionId=marker["VersionId"])
    removed = {"Bucket": bucket, "Key": "a", "VersionId": marker["VersionId"]}
    assert refused(s3_client.get_object, **removed) == (404, "NoSuchVersion")
    assert s3_client.get_object(Bucket=bucket, Key="a")["Body"].read() == b"second"
    versions = s3_client.list_object_versions(Bucket=bucket)["Versions"]
    assert [(version["VersionId"], version["IsLatest"]) for version in versions] == [
        (second, True),
        (first, False),
    ]


def test_suspended_versioning_replaces_only_the_null_version(s3_client, make_bucket):
    bucket = make_bucket(versioned=True)
    kept = s3_client.put_object(Bucket=bucket, Key="a", Body=b"kept")["VersionId"]
    s3_client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    for body in (b"null 1", b"null 2"):
        s3_client.put_object(Bucket=bucket, Key="a", Body=body)
    versions = s3_client.list_object_versions(Bucket=bucket)["Versions"]
    assert [version["VersionId"] for version in versions] == ["null", kept]
    assert s3_client.get_object(Bucket=bucket, Key="a")["Body"].read() == b"null 2"


@pytest.mark.parametrize("paginator", ["list_objects", "list_objects_v2"])
def test_lists_come_in_pages_and_folders(paginator, s3_client, bucket):
    keys = ["a/1", "a/2", "b", "c/1", "c/2", "d", "ü &"]
    for key in keys:
        s3_client.put_object(Bucket=bucket, Key=key)

    def listed(**arguments):
        found = []
        for page in s3_client.get_paginator(paginator).paginate(
            Bucket=bucket, PaginationConfig={"PageSize": 2}, **arguments
        ):
            found += [entry["Key"] for entry in page.get("Contents", [])]
            found += [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
        return sorted(found)

    assert listed() == keys
    assert listed(Delimiter="/") == ["a/", "b", "c/", "d", "ü &"]
    assert listed(Prefix="c/") == ["c/1", "c/2"]


def test_versions_are_listed_in_pages(s3_client, make_bucket):
    bucket = make_bucket(versioned=True)
    for key in ("a", "a", "a", "b"):
        s3_client.put_object(Bucket=bucket, Key=key)
    pages = s3_client.get_paginator("list_object_versions").paginate(Bucket=bucket, PaginationConfig={"PageSize": 1})
    assert [version["Key"] for page in pages for version in page["Versions"]] == ["a", "a", "a", "b"]


def test_parts_bring_any_checksum_where_the_upload_asked_for_none(s3_client, bucket):
    upload = {"Bucket": bucket, "Key": "a"}
    upload["UploadId"] = s3_client.create_multipart_upload(**upload)["UploadId"]
    part = s3_client.upload_part(**upload, PartNumber=1, Body=b"123456789", ChecksumAlgorithm="SHA1")
    assert part["ChecksumSHA1"] == base64.b64encode(hashlib.sha1(b"123456789", usedforsecurity=False).digest()).decode()
    parts = [{"PartNumber": 1, "ETag": part["ETag"]}]
    done = s3_client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    assert (done["ChecksumType"], done["ChecksumCRC64NVME"]) == ("FULL_OBJECT", "rosUhgp5mIg=")
    wrong = {
        "Bucket": bucket,
        "Key": "b",
        "UploadId": s3_client.create_multipart_upload(Bucket=bucket, Key="b")["UploadId"],
    }
    assert refused(s3_client.upload_part, **wrong, PartNumber=1, Body=b"1", ChecksumSHA1="A" * 27 + "=") == (
        400,
        "BadDigest",
    )


def test_parts_keep_to_the_checksum_that_the_upload_asked_for(s3_client, bucket):
    upload = {"Bucket": bucket, "Key": "a"}
    upload["UploadId"] = s3_client.create_multipart_upload(**upload, ChecksumAlgorithm="CRC32")["UploadId"]
    sent = {**upload, "PartNumber": 1, "Body": b"1", "ChecksumAlgorithm": "SHA1"}
    assert refused(s3_client.upload_part, **sent) == (400, "InvalidRequest")


def test_tags_are_put_read_and_removed(s3_client, bucket, etag):
    tags = {"Bucket": bucket, "Key": "a"}
    s3_client.put_object_tagging(**tags, Tagging={"TagSet": [{"Key": "k", "Value": "v"}]})
    assert s3_client.get_object_tagging(**tags)["TagSet"] == [{"Key": "k", "Value": "v"}]
    s3_client.delete_object_tagging(**tags)
    assert s3_client.get_object_tagging(**tags)["TagSet"] == []


def test_a_bucket_with_objects_cannot_be_deleted(s3_client, bucket, etag):
    assert refused(s3_client.delete_bucket, Bucket=bucket) == (409, "BucketNotEmpty")
    s3_client.delete_object(Bucket=bucket, Key="a")
    s3_client.delete_bucket(Bucket=bucket)
    assert refused(s3_client.put_object, Bucket=bucket, Key="a") == (404, "NoSuchBucket")


def test_a_bucket_cannot_be_created_twice(s3_client, bucket, embedded_s3):
    where = {"LocationConstraint": embedded_s3.region}
    refusal = refused(s3_client.create_bucket, Bucket=bucket, CreateBucketConfiguration=where)
    assert refusal == (409, "BucketAlreadyOwnedByYou")


@pytest.mark.parametrize("subresource", ["acl", "restore", "torrent"])
def test_what_is_not_served_says_so(subresource, requests, etag):
    response = httpx.get(requests.presign(query=f"?{subresource}"))
    assert (response.status_code, error_code(response)) == (501, "NotImplemented")
