"""Reads of an object's parts: `partNumber` of GET and HEAD, and GetObjectAttributes, as AWS answers.

Source: the answers that LocalStack recorded from AWS (`test_s3.snapshot.json`: `test_get_object_part`,
`test_get_object_attributes`; `test_s3_list_operations.snapshot.json`), and what VersityGW's integration tests say.
"""

import pytest
from defusedxml.ElementTree import fromstring

from tests.s3.multipart import PART, REST, Multipart, checksum, elements, nested, refusal

SIZE = len(PART + REST)


@pytest.fixture
def stored(multipart_upload):
    """Return a function that stores an object of parts, and returns its upload."""

    def store(algorithm="", checksum_type="", parts=(PART, REST)):
        headers = {"checksum_algorithm": algorithm, "checksum_type": checksum_type} if algorithm else {}
        multipart_upload.create(**headers)
        for number, body in enumerate(parts, 1):
            declared = {f"checksum_{algorithm.lower()}": checksum(algorithm, body)} if algorithm else {}
            multipart_upload.part(number, body, **declared)
        listed = multipart_upload.listed if algorithm else multipart_upload.bare()
        assert multipart_upload.complete(listed).status_code == 200
        return multipart_upload

    return store


def checksums(response):
    """Return the checksum headers of an answer."""
    return {name: value for name, value in response.headers.items() if name.startswith("x-amz-checksum-")}


@pytest.mark.parametrize(
    ("number", "body", "content_range"),
    [(1, PART, f"bytes 0-{len(PART) - 1}/{SIZE}"), (2, REST, f"bytes {len(PART)}-{SIZE - 1}/{SIZE}")],
)
def test_a_part_is_answered_with_206(number, body, content_range, stored):
    upload = stored()
    whole = upload.head()
    for response in (upload.get(f"partNumber={number}"), upload.head(f"partNumber={number}")):
        assert (response.status_code, response.headers["content-range"]) == (206, content_range)
        assert response.headers["content-length"] == str(len(body))
        assert response.headers["x-amz-mp-parts-count"] == "2"
        assert response.headers["etag"] == whole.headers["etag"]
        # A checksum of the object is not one of its part.
        assert checksums(response) == {}
    assert upload.get(f"partNumber={number}").content == body
    assert "x-amz-mp-parts-count" not in whole.headers


def test_a_part_of_a_composite_object_has_its_own_checksum(stored):
    upload = stored("CRC32C")
    for response in (upload.get("partNumber=2"), upload.head("partNumber=2")):
        assert checksums(response) == {
            "x-amz-checksum-crc32c": checksum("CRC32C", REST),
            "x-amz-checksum-type": "COMPOSITE",
        }
    without = upload.send("GET", "partNumber=2")
    assert (without.status_code, checksums(without)) == (206, {})


@pytest.mark.parametrize("checksum_type", ["COMPOSITE", "FULL_OBJECT"])
def test_the_only_part_has_a_checksum(checksum_type, stored):
    upload = stored("CRC32C", checksum_type, [REST])
    response = upload.get("partNumber=1")
    assert (response.status_code, response.headers["content-range"]) == (206, "bytes 0-9/10")
    assert response.headers["x-amz-mp-parts-count"] == "1"
    assert checksums(response) == {
        "x-amz-checksum-crc32c": checksum("CRC32C", REST),
        "x-amz-checksum-type": checksum_type,
    }


def test_an_object_without_parts_is_its_first_part(multipart_upload, s3_client):
    s3_client.put_object(Bucket=multipart_upload.requests.bucket, Key=multipart_upload.key, Body=REST)
    for response in (multipart_upload.get("partNumber=1"), multipart_upload.head("partNumber=1")):
        assert (response.status_code, response.headers["content-range"]) == (206, "bytes 0-9/10")
        assert checksums(response) == {
            "x-amz-checksum-crc32": checksum("CRC32", REST),
            "x-amz-checksum-type": "FULL_OBJECT",
        }
        assert "x-amz-mp-parts-count" not in response.headers
    refused = multipart_upload.get("partNumber=2")
    found = elements(refused)
    assert (refusal(refused), found["Message"]) == (
        (416, "InvalidPartNumber"),
        "The requested partnumber is not satisfiable",
    )
    assert (found["PartNumberRequested"], found["ActualPartCount"]) == ("2", "1")


def test_the_first_part_of_an_empty_object_is_empty(multipart_upload, s3_client):
    s3_client.put_object(Bucket=multipart_upload.requests.bucket, Key=multipart_upload.key, Body=b"")
    response = multipart_upload.get("partNumber=1")
    assert (response.status_code, response.content) == (200, b"")
    assert "content-range" not in response.headers


def test_an_absent_part_is_refused(stored):
    upload = stored()
    refused = upload.get("partNumber=10")
    found = elements(refused)
    assert refusal(refused) == (416, "InvalidPartNumber")
    assert (found["PartNumberRequested"], found["ActualPartCount"]) == ("10", "2")
    assert upload.head("partNumber=10").status_code == 416


def test_a_part_and_a_range_exclude_each_other(stored):
    refused = stored().get("partNumber=2", range="bytes=0-8")
    assert (refusal(refused), elements(refused)["Message"]) == (
        (400, "InvalidRequest"),
        "Cannot specify both Range header and partNumber query parameter",
    )


@pytest.mark.parametrize("number", ["-3", "0", "10001", "x", ""])
def test_an_invalid_part_number_is_refused(number, stored):
    refused = stored().get(f"partNumber={number}")
    found = elements(refused)
    assert refusal(refused) == (400, "InvalidArgument")
    assert (found["ArgumentName"], found["ArgumentValue"]) == ("partNumber", number)


def attributes(upload, asked, **headers):
    """Send GetObjectAttributes."""
    return upload.send(
        "GET",
        "attributes",
        {"x-amz-object-attributes": asked} | {f"x-amz-{k.replace('_', '-')}": v for k, v in headers.items()},
    )


ALL = "ETag,Checksum,ObjectParts,StorageClass,ObjectSize"


def test_the_attributes_of_a_composite_object_list_its_parts(stored):
    upload = stored("SHA256")
    response = attributes(upload, ALL)
    assert fromstring(response.content).tag.endswith("}GetObjectAttributesResponse")
    whole = upload.head().headers
    assert response.headers["last-modified"] == whole["last-modified"]
    assert elements(response) == {
        "ETag": whole["etag"].strip('"'),
        "StorageClass": "STANDARD",
        "ObjectSize": str(SIZE),
    }
    assert nested(response, "Checksum") == [
        {"ChecksumSHA256": whole["x-amz-checksum-sha256"].partition("-")[0], "ChecksumType": "COMPOSITE"}
    ]
    (parts,) = nested(response, "ObjectParts")
    parts.pop("Part")
    assert parts == {
        "PartsCount": "2",
        "PartNumberMarker": "0",
        "NextPartNumberMarker": "2",
        "MaxParts": "1000",
        "IsTruncated": "false",
    }


def test_boto3_pages_through_the_parts_of_an_object(stored, s3_client):
    upload = stored("SHA256")
    named = {"Bucket": upload.requests.bucket, "Key": upload.key, "ObjectAttributes": ["ObjectParts"]}
    first = s3_client.get_object_attributes(**named, MaxParts=1)["ObjectParts"]
    assert (first["IsTruncated"], first["NextPartNumberMarker"], first["TotalPartsCount"]) == (True, 1, 2)
    assert first["Parts"] == [{"PartNumber": 1, "Size": len(PART), "ChecksumSHA256": checksum("SHA256", PART)}]
    second = s3_client.get_object_attributes(**named, MaxParts=1, PartNumberMarker=1)["ObjectParts"]
    assert (second["IsTruncated"], second["PartNumberMarker"], second["NextPartNumberMarker"]) == (False, 1, 2)
    assert second["Parts"] == [{"PartNumber": 2, "Size": len(REST), "ChecksumSHA256": checksum("SHA256", REST)}]
    beyond = s3_client.get_object_attributes(**named, MaxParts=1, PartNumberMarker=10)["ObjectParts"]
    assert (beyond["IsTruncated"], beyond["NextPartNumberMarker"], beyond.get("Parts")) == (False, 0, None)


@pytest.mark.parametrize("algorithm", ["", "CRC32"])
def test_the_attributes_of_a_full_object_count_its_parts_only(algorithm, stored):
    response = attributes(stored(algorithm, "FULL_OBJECT" if algorithm else ""), ALL)
    assert nested(response, "ObjectParts") == [{"PartsCount": "2"}]
    name = algorithm or "CRC64NVME"
    assert nested(response, "Checksum") == [
        {f"Checksum{name}": checksum(name, PART + REST), "ChecksumType": "FULL_OBJECT"}
    ]


def test_the_attributes_of_an_object_without_parts(multipart_upload, s3_client):
    s3_client.put_object(Bucket=multipart_upload.requests.bucket, Key=multipart_upload.key, Body=REST)
    response = attributes(multipart_upload, ALL)
    assert elements(response).keys() == {"ETag", "StorageClass", "ObjectSize"}
    assert nested(response, "ObjectParts") == []
    assert nested(response, "Checksum") == [{"ChecksumCRC32": checksum("CRC32", REST), "ChecksumType": "FULL_OBJECT"}]


def test_only_the_named_attributes_are_answered(stored):
    upload = stored(parts=[REST])
    assert elements(attributes(upload, "ObjectSize")) == {"ObjectSize": "10"}
    # Spaces between the names do not matter.
    assert elements(attributes(upload, "ObjectSize , StorageClass")).keys() == {"ObjectSize", "StorageClass"}


def test_the_attributes_of_a_version(make_bucket, requests, s3_client):
    requests.bucket = make_bucket(versioned=True)
    upload = Multipart(requests)
    first, second = (
        s3_client.put_object(Bucket=requests.bucket, Key=upload.key, Body=body)["VersionId"] for body in (REST, b"2")
    )
    response = attributes(upload, "ObjectSize")
    assert (response.headers["x-amz-version-id"], elements(response)["ObjectSize"]) == (second, "1")
    response = upload.send("GET", f"attributes&versionId={first}", {"x-amz-object-attributes": "ObjectSize"})
    assert (response.headers["x-amz-version-id"], elements(response)["ObjectSize"]) == (first, "10")
    s3_client.delete_object(Bucket=requests.bucket, Key=upload.key)
    refused = attributes(upload, "ObjectSize")
    assert (refusal(refused), refused.headers["x-amz-delete-marker"]) == ((404, "NoSuchKey"), "true")


def test_the_attributes_of_an_absent_object_are_refused(multipart_upload):
    refused = attributes(multipart_upload, "ETag")
    assert (refusal(refused), elements(refused)["Key"]) == ((404, "NoSuchKey"), multipart_upload.key)


def test_an_unknown_attribute_is_refused(stored):
    refused = attributes(stored(parts=[REST]), "ETag,Color")
    found = elements(refused)
    assert (refusal(refused), found["Message"]) == ((400, "InvalidArgument"), "Invalid attribute name specified.")
    assert (found["ArgumentName"], found["ArgumentValue"]) == ("x-amz-object-attributes", "Color")


@pytest.mark.parametrize("asked", [{}, {"x-amz-object-attributes": ","}], ids=["absent", "empty"])
def test_attributes_must_be_named(asked, stored):
    refused = stored(parts=[REST]).send("GET", "attributes", asked)
    assert (refusal(refused), elements(refused)["Message"]) == (
        (400, "InvalidRequest"),
        "The x-amz-object-attributes header specifying the attributes to be retrieved is either missing or empty",
    )


@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD"])
def test_attributes_are_only_read(method, stored):
    upload = stored(parts=[REST])
    assert upload.send(method, "attributes").status_code == 501
    assert upload.get().content == REST
