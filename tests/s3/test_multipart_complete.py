"""CompleteMultipartUpload: repeated, conditional, and refused, as AWS answers.

Source: the answers that LocalStack recorded from AWS (`test_s3.snapshot.json`, `test_s3_api.snapshot.json`:
`TestS3ObjectWritePrecondition`), and ceph/s3-tests (`test_multipart_reupload_checksum_and_etag`).
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.s3.multipart import PART, REST, Multipart, checksum, elements, nested, refusal

OTHER = '"00000000000000000000000000000000"'
CONFLICT = "The conditional request cannot succeed due to a conflicting operation against this resource."


@pytest.fixture
def sent(multipart_upload):
    """Create an upload with one part."""
    multipart_upload.create()
    assert multipart_upload.part(1, REST).status_code == 200
    return multipart_upload


def stored_bytes(upload):
    """Return the object's bytes, or None."""
    response = upload.get()
    return response.content if response.status_code == 200 else None


def test_a_repeated_complete_gets_the_first_answer(multipart_upload):
    multipart_upload.create(checksum_algorithm="SHA256")
    for number, body in enumerate((PART, REST), 1):
        multipart_upload.part(number, body, checksum_sha256=checksum("SHA256", body))
    first, second = multipart_upload.complete(), multipart_upload.complete()
    assert (first.status_code, second.status_code) == (200, 200)
    assert elements(first) == elements(second)
    assert elements(second)["ChecksumSHA256"].endswith("-2")


def test_a_repeated_conditional_complete_gets_the_first_answer(sent):
    first = sent.complete(sent.bare(), if_none_match="*")
    second = sent.complete(sent.bare(), if_none_match="*")
    assert (first.status_code, second.status_code) == (200, 200)
    assert elements(first) == elements(second)


def test_a_repeated_complete_stores_no_second_version(make_bucket, s3_client, requests):
    requests.bucket = make_bucket(versioned=True)
    upload = Multipart(requests)
    upload.create()
    upload.part(1, REST)
    first, second = upload.complete(upload.bare()), upload.complete(upload.bare())
    assert first.headers["x-amz-version-id"] == second.headers["x-amz-version-id"]
    versions = s3_client.list_object_versions(Bucket=requests.bucket)["Versions"]
    assert [version["VersionId"] for version in versions] == [first.headers["x-amz-version-id"]]


def test_complete_sent_by_many_at_once_is_answered_alike(multipart_upload):
    multipart_upload.create()
    for number, body in enumerate((PART, REST), 1):
        multipart_upload.part(number, body)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: multipart_upload.complete(multipart_upload.bare()), range(8)))
    assert [answer.status_code for answer in answers] == [200] * 8
    assert len({elements(answer)["ETag"] for answer in answers}) == 1
    assert stored_bytes(multipart_upload) == PART + REST


def test_a_complete_repeated_with_other_parts_is_refused(sent):
    sent.complete(sent.bare())
    refused = sent.complete([{"PartNumber": "1", "ETag": OTHER}])
    assert refusal(refused) == (404, "NoSuchUpload")


@pytest.mark.parametrize("change", ["deleted", "overwritten"])
def test_a_complete_repeated_after_the_object_is_gone_is_refused(change, sent, s3_client):
    sent.complete(sent.bare())
    if change == "deleted":
        s3_client.delete_object(Bucket=sent.requests.bucket, Key=sent.key)
    else:
        s3_client.put_object(Bucket=sent.requests.bucket, Key=sent.key, Body=b"later")
    refused = sent.complete(sent.bare())
    assert (refusal(refused), elements(refused)["UploadId"]) == ((404, "NoSuchUpload"), sent.id)
    assert stored_bytes(sent) == (None if change == "deleted" else b"later")


@pytest.mark.parametrize("operation", ["part", "list", "abort"])
def test_a_completed_upload_exists_no_more(operation, sent):
    sent.complete(sent.bare())
    send = {"part": lambda: sent.part(2, REST), "list": sent.list_parts, "abort": sent.abort}[operation]
    assert refusal(send()) == (404, "NoSuchUpload")
    assert stored_bytes(sent) == REST


@pytest.mark.parametrize("operation", ["part", "list", "abort", "complete"])
def test_an_upload_belongs_to_its_key(operation, sent):
    other = Multipart(sent.requests, "other", sent.id, sent.listed)
    send = {
        "part": lambda: other.part(1, REST),
        "list": other.list_parts,
        "abort": other.abort,
        "complete": lambda: other.complete(other.bare()),
    }[operation]
    assert refusal(send()) == (404, "NoSuchUpload")
    assert len(nested(sent.list_parts(), "Part")) == 1


def test_an_unknown_upload_is_refused_before_the_list_is_read(multipart_upload):
    multipart_upload.id = "fakeid"
    response = multipart_upload.send("POST", "uploadId=fakeid")
    assert (refusal(response), elements(response)["UploadId"]) == ((404, "NoSuchUpload"), "fakeid")


def put(upload, s3_client, body=b"put"):
    """Store an object at the upload's key, and return its ETag."""
    return s3_client.put_object(Bucket=upload.requests.bucket, Key=upload.key, Body=body)["ETag"]


def delete(upload, s3_client):
    """Delete the object at the upload's key."""
    s3_client.delete_object(Bucket=upload.requests.bucket, Key=upload.key)


def test_if_none_match_holds_for_a_new_key(sent):
    assert sent.complete(sent.bare(), if_none_match="*").status_code == 200
    assert stored_bytes(sent) == REST


def test_if_none_match_fails_when_the_key_was_written_after_create(sent, s3_client):
    put(sent, s3_client)
    refused = sent.complete(sent.bare(), if_none_match="*")
    assert (refusal(refused), elements(refused)["Condition"]) == ((412, "PreconditionFailed"), "If-None-Match")
    assert stored_bytes(sent) == b"put"


@pytest.mark.parametrize("versioned", [False, True])
def test_if_none_match_conflicts_when_the_key_was_deleted_after_create(versioned, requests, make_bucket, s3_client):
    requests.bucket = make_bucket(versioned=versioned)
    upload = Multipart(requests)
    put(upload, s3_client)
    upload.create()
    upload.part(1, REST)
    assert refusal(upload.complete(upload.bare(), if_none_match="*")) == (412, "PreconditionFailed")
    delete(upload, s3_client)
    refused = upload.complete(upload.bare(), if_none_match="*")
    found = elements(refused)
    assert (refusal(refused), found["Message"]) == ((409, "ConditionalRequestConflict"), CONFLICT)
    assert (found["Condition"], found["Key"]) == ("If-None-Match", upload.key)
    assert stored_bytes(upload) is None
    upload.create()
    upload.part(1, REST)
    assert upload.complete(upload.bare(), if_none_match="*").status_code == 200


@pytest.mark.parametrize("body", [b"put", b"other"], ids=["the same bytes", "other bytes"])
def test_if_match_conflicts_when_the_key_was_written_after_create(body, multipart_upload, s3_client):
    first = put(multipart_upload, s3_client)
    multipart_upload.create()
    multipart_upload.part(1, REST)
    second = put(multipart_upload, s3_client, body)
    if second != first:
        refused = multipart_upload.complete(multipart_upload.bare(), if_match=first)
        assert (refusal(refused), elements(refused)["Condition"]) == ((412, "PreconditionFailed"), "If-Match")
    refused = multipart_upload.complete(multipart_upload.bare(), if_match=second)
    found = elements(refused)
    assert (refusal(refused), found["Message"]) == ((409, "ConditionalRequestConflict"), CONFLICT)
    assert (found["Condition"], found["Key"]) == ("If-Match", multipart_upload.key)
    assert stored_bytes(multipart_upload) == body
    multipart_upload.create()
    multipart_upload.part(1, REST)
    assert multipart_upload.complete(multipart_upload.bare(), if_match=second).status_code == 200


def test_if_match_conflicts_when_the_key_was_deleted_and_written_after_create(multipart_upload, s3_client):
    etag = put(multipart_upload, s3_client)
    multipart_upload.create()
    multipart_upload.part(1, REST)
    delete(multipart_upload, s3_client)
    refused = multipart_upload.complete(multipart_upload.bare(), if_match=etag)
    assert (refusal(refused), elements(refused)["Key"]) == ((404, "NoSuchKey"), multipart_upload.key)
    put(multipart_upload, s3_client)
    refused = multipart_upload.complete(multipart_upload.bare(), if_match=etag)
    assert refusal(refused) == (409, "ConditionalRequestConflict")
    assert stored_bytes(multipart_upload) == b"put"


def test_if_match_of_a_multipart_etag_holds(sent):
    etag = elements(sent.complete(sent.bare()))["ETag"]
    sent.create()
    sent.part(1, REST)
    plain = f'"{hashlib.md5(REST, usedforsecurity=False).hexdigest()}"'
    assert refusal(sent.complete(sent.bare(), if_match=plain)) == (412, "PreconditionFailed")
    assert sent.complete(sent.bare(), if_match=etag).status_code == 200


def test_a_complete_without_condition_replaces_what_was_written_after_create(sent, s3_client):
    put(sent, s3_client)
    assert sent.complete(sent.bare()).status_code == 200
    assert stored_bytes(sent) == REST


def test_a_refused_condition_leaves_the_upload_as_it_is(sent, s3_client):
    put(sent, s3_client)
    sent.complete(sent.bare(), if_none_match="*")
    assert len(nested(sent.list_parts(), "Part")) == 1
    assert sent.complete(sent.bare()).status_code == 200


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        (b"", "InvalidRequest", "You must specify at least one part"),
        (b"<CompleteMultipartUpload/>", "MalformedXML", None),
        (b"<CompleteMultipartUpload>", "MalformedXML", None),
        (b"<Delete/>", "MalformedXML", None),
        (
            b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber></Part></CompleteMultipartUpload>",
            "MalformedXML",
            None,
        ),
        (b"<CompleteMultipartUpload><Part><ETag>a</ETag></Part></CompleteMultipartUpload>", "MalformedXML", None),
        (
            b"<CompleteMultipartUpload><Part><ETag>a</ETag><PartNumber>x</PartNumber></Part></CompleteMultipartUpload>",
            "MalformedXML",
            None,
        ),
        (
            b'<!DOCTYPE c [<!ENTITY e "a">]><CompleteMultipartUpload><Part><ETag>&e;</ETag><PartNumber>1</PartNumber>'
            b"</Part></CompleteMultipartUpload>",
            "MalformedXML",
            None,
        ),
        (
            b"<CompleteMultipartUpload><Part><ETag>a</ETag><PartNumber>0</PartNumber></Part></CompleteMultipartUpload>",
            "InvalidArgument",
            "PartNumber must be >= 1",
        ),
    ],
    ids=["no body", "no part", "cut", "another document", "no ETag", "no number", "no integer", "an entity", "zero"],
)
def test_complete_refuses_a_list_without_parts(body, code, text, sent):
    response = sent.send("POST", f"uploadId={sent.id}", body=body)
    assert refusal(response) == (400, code)
    assert text is None or elements(response)["Message"] == text
    assert stored_bytes(sent) is None


@pytest.mark.parametrize("numbers", [[2, 1], [1, 1], [2, 3, 1]])
def test_complete_refuses_parts_out_of_order(numbers, sent):
    parts = [{"PartNumber": str(number), "ETag": sent.listed[0]["ETag"]} for number in numbers]
    refused = sent.complete(parts)
    assert (refusal(refused), elements(refused)["UploadId"]) == ((400, "InvalidPartOrder"), sent.id)


@pytest.mark.parametrize(("number", "etag"), [("2", None), ("1", OTHER)], ids=["unknown number", "another ETag"])
def test_complete_refuses_an_unknown_part(number, etag, sent):
    part = {"PartNumber": number, "ETag": etag or sent.listed[0]["ETag"]}
    refused = sent.complete([part])
    found = elements(refused)
    assert refusal(refused) == (400, "InvalidPart")
    assert (found["PartNumber"], found["ETag"]) == (number, part["ETag"].strip('"'))
    assert stored_bytes(sent) is None


def test_complete_refuses_a_small_part_that_is_not_the_last(sent):
    sent.part(2, REST)
    refused = sent.complete(sent.bare())
    found = elements(refused)
    assert refusal(refused) == (400, "EntityTooSmall")
    assert (found["PartNumber"], found["ProposedSize"], found["MinSizeAllowed"]) == ("1", "10", "5242880")
    assert f'"{found["ETag"]}"' == sent.listed[0]["ETag"]


def test_part_numbers_may_have_gaps(multipart_upload):
    multipart_upload.create()
    for number, body in ((3, PART), (10_000, REST)):
        multipart_upload.part(number, body)
    assert multipart_upload.complete(multipart_upload.bare()).status_code == 200
    assert stored_bytes(multipart_upload) == PART + REST


def test_part_numbers_of_a_composite_upload_must_be_consecutive(multipart_upload):
    multipart_upload.create(checksum_algorithm="CRC32")
    for number, body in ((1, PART), (3, REST)):
        multipart_upload.part(number, body, checksum_crc32=checksum("CRC32", body))
    assert refusal(multipart_upload.complete()) == (400, "InvalidPartOrder")


@pytest.mark.parametrize("number", ["0", "10001", "-1", "x", ""])
def test_a_part_number_outside_its_range_is_refused(number, sent):
    response = sent.send("PUT", f"partNumber={number}&uploadId={sent.id}", body=REST)
    found = elements(response)
    assert (refusal(response), found["Message"]) == (
        (400, "InvalidArgument"),
        "Part number must be an integer between 1 and 10000, inclusive",
    )
    assert (found["ArgumentName"], found["ArgumentValue"]) == ("partNumber", number)


def test_a_part_sent_again_replaces_the_first(sent):
    first = sent.bare()
    sent.part(1, b"again")
    assert refusal(sent.complete(first)) == (400, "InvalidPart")
    assert sent.complete([sent.bare()[1]]).status_code == 200
    assert stored_bytes(sent) == b"again"


def test_each_answer_names_the_encryption(multipart_upload, s3_client):
    s3_client.put_object(Bucket=multipart_upload.requests.bucket, Key="source", Body=REST)
    answers = [multipart_upload.create(), multipart_upload.part(1, PART), multipart_upload.copy(2, "source")]
    answers += [multipart_upload.complete(multipart_upload.bare()), multipart_upload.head()]
    found = [(answer.status_code, answer.headers["x-amz-server-side-encryption"]) for answer in answers]
    assert found == [(200, "AES256")] * 5


def test_the_location_escapes_the_key(requests):
    upload = Multipart(requests, "a folder/test-unicode_—_file")
    upload.create()
    upload.part(1, REST)
    location = elements(upload.complete(upload.bare()))["Location"]
    expected = f"{requests.s3.endpoint_url}/{requests.bucket}/a%20folder%2Ftest-unicode_%E2%80%94_file"
    assert location == expected


def test_the_object_is_what_create_described(multipart_upload, s3_client):
    multipart_upload.create(
        meta_note="a note", tagging="k=v", storage_class="STANDARD_IA", content_type="video/mp4", content_language="de"
    )
    multipart_upload.part(1, REST)
    multipart_upload.complete(multipart_upload.bare())
    headers = multipart_upload.head().headers
    names = ("content-type", "content-language", "x-amz-meta-note", "x-amz-storage-class", "x-amz-tagging-count")
    assert [headers[name] for name in names] == ["video/mp4", "de", "a note", "STANDARD_IA", "1"]


@pytest.mark.parametrize("header", [{"acl": "public-read"}, {"acl": "private"}, {"grant_read": 'id="another"'}])
def test_create_refuses_an_acl_that_the_bucket_refuses(header, multipart_upload, s3_client):
    response = multipart_upload.create(**header)
    assert (refusal(response), elements(response)["Message"]) == (
        (400, "AccessControlListNotSupported"),
        "The bucket does not allow ACLs",
    )
    assert "Uploads" not in s3_client.list_multipart_uploads(Bucket=multipart_upload.requests.bucket)


def test_create_accepts_the_acl_of_the_buckets_owner(multipart_upload):
    assert multipart_upload.create(acl="bucket-owner-full-control").status_code == 200


def test_create_accepts_an_acl_where_the_bucket_takes_acls(multipart_upload, s3_client):
    s3_client.put_bucket_ownership_controls(
        Bucket=multipart_upload.requests.bucket,
        OwnershipControls={"Rules": [{"ObjectOwnership": "ObjectWriter"}]},
    )
    multipart_upload.create(acl="private")
    multipart_upload.part(1, REST)
    assert multipart_upload.complete(multipart_upload.bare()).status_code == 200


def test_an_abort_by_the_time_of_initiation_is_refused(sent):
    """Only directory buckets have this condition."""
    response = sent.send("DELETE", f"uploadId={sent.id}", {"x-amz-if-match-initiated-time": "2026-01-01T00:00:00Z"})
    assert refusal(response) == (501, "NotImplemented")
    assert len(nested(sent.list_parts(), "Part")) == 1


def test_a_part_number_without_an_upload_is_refused(sent):
    response = sent.send("PUT", "partNumber=1", body=REST)
    found = elements(response)
    assert (refusal(response), found["Message"]) == (
        (400, "InvalidArgument"),
        "This operation does not accept partNumber without uploadId",
    )
    assert (found["ArgumentName"], found["ArgumentValue"]) == ("partNumber", "1")
    assert stored_bytes(sent) is None
