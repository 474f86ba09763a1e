"""ListParts and ListMultipartUploads: their elements and pages, as AWS answers.

Source: the answers that LocalStack recorded from AWS (`test_s3_list_operations.snapshot.json`), and what VersityGW's
integration tests (`ListParts.go`, `ListMultipartUploads.go`) say of AWS.
"""

import pytest
from defusedxml.ElementTree import fromstring

from tests.s3.multipart import REST, Multipart, checksum, elements, nested, refusal

OWNER, INITIATOR = {"ID": "embedded"}, {"ID": "embedded", "DisplayName": "embedded"}
LIMITS = [
    ("x", "Provided {} not an integer or within integer range"),
    ("1.5", "Provided {} not an integer or within integer range"),
    ("2736457823532448723", "Provided {} not an integer or within integer range"),
    ("-3", "Argument {} must be an integer between 0 and 2147483647"),
]


@pytest.fixture
def two_parts(multipart_upload):
    """Create an upload with two parts."""
    multipart_upload.create()
    for number in (2, 7):
        multipart_upload.part(number, REST)
    return multipart_upload


def numbers(response):
    """Return the part numbers of a page, and its paging elements."""
    found = elements(response)
    names = ("PartNumberMarker", "NextPartNumberMarker", "MaxParts", "IsTruncated")
    return [part["PartNumber"] for part in nested(response, "Part")], *(found[name] for name in names)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", (["2", "7"], "0", "7", "1000", "false")),
        ("&max-parts=&part-number-marker=", (["2", "7"], "0", "7", "1000", "false")),
        ("&max-parts=2", (["2", "7"], "0", "7", "2", "false")),
        ("&max-parts=1", (["2"], "0", "2", "1", "true")),
        ("&max-parts=1&part-number-marker=2", (["7"], "2", "7", "1", "false")),
        ("&part-number-marker=3", (["7"], "3", "7", "1000", "false")),
        ("&max-parts=1&part-number-marker=10", ([], "10", "0", "1", "false")),
        ("&max-parts=2000", (["2", "7"], "0", "7", "1000", "false")),
    ],
)
def test_parts_are_listed_in_pages(query, expected, two_parts):
    assert numbers(two_parts.list_parts(query)) == expected


def test_an_upload_without_parts_has_an_empty_list(multipart_upload):
    multipart_upload.create()
    assert numbers(multipart_upload.list_parts()) == ([], "0", "0", "1000", "false")


@pytest.mark.parametrize("parameter", ["max-parts", "part-number-marker"])
@pytest.mark.parametrize(("value", "text"), LIMITS)
def test_an_invalid_limit_of_the_parts_is_refused(parameter, value, text, two_parts):
    response = two_parts.list_parts(f"&{parameter}={value}")
    found = elements(response)
    assert (refusal(response), found["Message"]) == ((400, "InvalidArgument"), text.format(parameter))
    assert (found["ArgumentName"], found["ArgumentValue"]) == (parameter, value)


def test_a_list_of_parts_describes_the_upload(multipart_upload):
    multipart_upload.create(checksum_algorithm="SHA256", storage_class="STANDARD_IA")
    multipart_upload.part(1, REST, checksum_sha256=checksum("SHA256", REST))
    response = multipart_upload.list_parts()
    found = elements(response)
    assert (
        found.items()
        >= {
            "Bucket": multipart_upload.requests.bucket,
            "Key": multipart_upload.key,
            "UploadId": multipart_upload.id,
            "StorageClass": "STANDARD_IA",
            "ChecksumAlgorithm": "SHA256",
            "ChecksumType": "COMPOSITE",
        }.items()
    )
    assert (nested(response, "Owner"), nested(response, "Initiator")) == ([OWNER], [INITIATOR])
    (part,) = nested(response, "Part")
    assert (part["Size"], part["ETag"], part["ChecksumSHA256"]) == (
        "10",
        multipart_upload.listed[0]["ETag"],
        checksum("SHA256", REST),
    )


def test_a_list_of_parts_names_no_algorithm_unasked(two_parts):
    response = two_parts.list_parts()
    assert not elements(response).keys() & {"ChecksumAlgorithm", "ChecksumType"}
    assert nested(response, "Part")[0].keys() == {"PartNumber", "LastModified", "ETag", "Size"}


@pytest.fixture
def created(requests):
    """Return a function that creates uploads of keys and returns their ids."""

    def create(*keys):
        uploads = [Multipart(requests, key) for key in keys]
        for upload in uploads:
            upload.create()
        return [upload.id for upload in uploads]

    return create


@pytest.fixture
def listed(requests):
    """Return a function that lists the bucket's uploads."""

    def list_uploads(query=""):
        upload = Multipart(requests, "")
        return upload.send("GET", f"uploads{query.replace('/', '%2F')}")

    return list_uploads


def page(response):
    """Return the ids on a page, and its paging elements."""
    found = elements(response)
    names = ("KeyMarker", "UploadIdMarker", "NextKeyMarker", "NextUploadIdMarker", "MaxUploads", "IsTruncated")
    return [upload["UploadId"] for upload in nested(response, "Upload")], *(found[name] for name in names)


def test_a_bucket_without_uploads_has_an_empty_list(listed):
    assert page(listed()) == ([], "", "", "", "", "1000", "false")


def test_uploads_are_listed_in_pages(created, listed):
    c, b, a1, a2, a3 = created("c", "b", "a", "a", "a")
    assert page(listed()) == ([a1, a2, a3, b, c], "", "", "c", c, "1000", "false")
    assert page(listed("&max-uploads=1")) == ([a1], "", "", "a", a1, "1", "true")
    assert page(listed("&max-uploads=1&key-marker=a")) == ([b], "a", "", "b", b, "1", "true")
    assert page(listed("&max-uploads=1&key-marker=c")) == ([], "c", "", "", "", "1", "false")
    # Without a key marker the marker of an upload is ignored.
    assert page(listed(f"&max-uploads=1&upload-id-marker={b}")) == ([a1], "", "", "a", a1, "1", "true")
    assert page(listed(f"&max-uploads=1&key-marker=&upload-id-marker={b}")) == ([a1], "", "", "a", a1, "1", "true")
    assert page(listed(f"&max-uploads=1&key-marker=a&upload-id-marker={a1}")) == ([a2], "a", a1, "a", a2, "1", "true")
    assert page(listed(f"&max-uploads=1&key-marker=a&upload-id-marker={a3}")) == ([b], "a", a3, "b", b, "1", "true")
    assert page(listed(f"&max-uploads=1&key-marker=b&upload-id-marker={b}")) == ([c], "b", b, "c", c, "1", "false")


def test_boto3_pages_through_uploads_and_parts(created, s3_client, bucket, two_parts):
    ids = created("b", "ü &", "a", "a")
    pages = s3_client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, PaginationConfig={"PageSize": 1})
    found = [(upload["Key"], upload["UploadId"]) for answer in pages for upload in answer["Uploads"]]
    assert found == [("a", ids[2]), ("a", ids[3]), ("b", ids[0]), (two_parts.key, two_parts.id), ("ü &", ids[1])]
    pages = s3_client.get_paginator("list_parts").paginate(
        Bucket=bucket, Key=two_parts.key, UploadId=two_parts.id, PaginationConfig={"PageSize": 1}
    )
    assert [part["PartNumber"] for answer in pages for part in answer["Parts"]] == [2, 7]


def test_a_key_marker_need_not_be_a_key(created, listed):
    bar, baz, foo = created("bar", "baz", "foo")
    assert page(listed("&key-marker=bat"))[0] == [baz, foo]
    assert page(listed(f"&key-marker=bat&upload-id-marker={baz}"))[0] == [foo]
    assert bar not in page(listed("&key-marker=bar"))[0]


@pytest.mark.parametrize("marker", ["invalid", "of another key"])
def test_an_upload_id_marker_must_be_of_the_key(marker, created, listed):
    _, other = created("a", "b")
    value = other if marker == "of another key" else marker
    response = listed(f"&key-marker=a&upload-id-marker={value}")
    found = elements(response)
    assert (refusal(response), found["Message"]) == ((400, "InvalidArgument"), "Invalid uploadId marker")
    assert (found["ArgumentName"], found["ArgumentValue"]) == ("upload-id-marker", value)


def prefixes(response):
    """Return the common prefixes of a page."""
    return [entry["Prefix"] for entry in nested(response, "CommonPrefixes")]


def test_uploads_are_listed_in_folders(created, listed):
    first, second = created("test/foo/bar/123", "test/bar/foo/123")
    response = listed("&prefix=test/&delimiter=/")
    assert (prefixes(response), nested(response, "Upload")) == (["test/bar/", "test/foo/"], [])
    found = elements(response)
    assert (found["Prefix"], found["Delimiter"], found["IsTruncated"]) == ("test/", "/", "false")
    assert prefixes(listed("&prefix=test/foo/&delimiter=/")) == ["test/foo/bar/"]
    assert prefixes(listed("&prefix=test/foo/bar&delimiter=/")) == ["test/foo/bar/"]
    assert page(listed("&prefix=test/foo"))[0] == [first]
    assert page(listed("&prefix=test"))[0] == [second, first]


def test_a_common_prefix_takes_a_place_but_is_no_marker(created, listed):
    folder = "&prefix=folder/&delimiter=/&max-uploads=1"
    keys = ("folder/aSubfolder/subFile1", "folder/aSubfolder/subFile2", "folder/file1", "folder/file2")
    *_, file1, _ = created(*keys)
    response = listed(folder)
    assert (prefixes(response), page(response)) == (
        ["folder/aSubfolder/"],
        ([], "", "", "", "", "1", "true"),
    )
    for marker in ("folder/aSubfolder/", "folder/aSubfolder/subFile1"):
        response = listed(f"{folder}&key-marker={marker}")
        assert prefixes(response) == []
        assert page(response) == ([file1], marker, "", "folder/file1", file1, "1", "true")


def test_a_list_of_uploads_describes_them(multipart_upload, listed):
    multipart_upload.create(checksum_algorithm="CRC32C", checksum_type="FULL_OBJECT", storage_class="STANDARD_IA")
    response = listed()
    (upload,) = nested(response, "Upload")
    assert (
        upload.items()
        >= {
            "Key": multipart_upload.key,
            "UploadId": multipart_upload.id,
            "StorageClass": "STANDARD_IA",
            "ChecksumAlgorithm": "CRC32C",
            "ChecksumType": "FULL_OBJECT",
        }.items()
    )
    assert upload["Initiated"].endswith("Z")
    (element,) = fromstring(response.content).findall("{*}Upload")
    owner = {child.tag.rpartition("}")[2]: child.text for child in element.findall("{*}Owner/*")}
    initiator = {child.tag.rpartition("}")[2]: child.text for child in element.findall("{*}Initiator/*")}
    assert (owner, initiator) == (OWNER, INITIATOR)


def test_a_list_without_conditions_names_none(created, listed):
    created("a")
    assert not elements(listed()).keys() & {"Prefix", "Delimiter", "EncodingType"}


@pytest.mark.parametrize("value", ["value", ""])
def test_an_unknown_encoding_is_refused(value, listed):
    response = listed(f"&encoding-type={value}")
    found = elements(response)
    assert (refusal(response), found["Message"]) == (
        (400, "InvalidArgument"),
        "Invalid Encoding Method specified in Request",
    )
    assert (found["ArgumentName"], found["ArgumentValue"]) == ("encoding-type", value)


def test_keys_are_encoded_on_demand(created, listed):
    created("ü &/1")
    response = listed("&encoding-type=url&prefix=%C3%BC%20")
    assert nested(response, "Upload")[0]["Key"] == "%C3%BC%20%26/1"
    assert (elements(response)["EncodingType"], elements(response)["Prefix"]) == ("url", "%C3%BC%20")


@pytest.mark.parametrize(("value", "text"), LIMITS)
def test_an_invalid_limit_of_the_uploads_is_refused(value, text, listed):
    response = listed(f"&max-uploads={value}")
    found = elements(response)
    assert (refusal(response), found["Message"]) == ((400, "InvalidArgument"), text.format("max-uploads"))
    assert (found["ArgumentName"], found["ArgumentValue"]) == ("max-uploads", value)


def test_an_aborted_upload_is_not_listed(multipart_upload, listed):
    multipart_upload.create()
    assert multipart_upload.abort().status_code == 204
    assert page(listed())[0] == []
    assert refusal(multipart_upload.abort()) == (404, "NoSuchUpload")


def test_a_bucket_takes_its_uploads_with_it(multipart_upload, embedded_s3, s3_client, listed):
    multipart_upload.create()
    multipart_upload.part(1, REST)
    bucket = multipart_upload.requests.bucket
    s3_client.delete_bucket(Bucket=bucket)
    s3_client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": embedded_s3.region})
    assert page(listed())[0] == []
    assert refusal(multipart_upload.list_parts()) == (404, "NoSuchUpload")
