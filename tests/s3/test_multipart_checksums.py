"""Checksums of multipart uploads, as AWS answers.

Source: the answers that LocalStack recorded from AWS (`tests/aws/services/s3/test_s3.snapshot.json`,
`TestS3MultipartUploadChecksum`), and what VersityGW's integration tests (`CompleteMultipartUpload.go`,
`UploadPart.go`, `CreateMultipartUpload.go`) say of AWS.
"""

import pytest

from broker.dev.s3.checksums import ALGORITHMS, composite
from tests.s3.multipart import PART, REST, checksum, elements, nested, refusal

FULL = ["CRC32", "CRC32C", "CRC64NVME"]
COMPOSITE = [algorithm for algorithm in ALGORITHMS if algorithm != "CRC64NVME"]
NULL_MODE = "The upload was created using the null checksum mode. The complete request must use the same checksum mode."


def message(response):
    """Return status, code and message of an error."""
    return *refusal(response), elements(response)["Message"]


@pytest.fixture
def sent(multipart_upload):
    """Return a function that creates an upload and sends its two parts with their checksums."""

    def send(algorithm="", checksum_type="", parts=(PART, REST)):
        headers = {"checksum_algorithm": algorithm, "checksum_type": checksum_type}
        assert multipart_upload.create(**{k: v for k, v in headers.items() if v}).status_code == 200
        for number, body in enumerate(parts, 1):
            declared = {f"checksum_{algorithm.lower()}": checksum(algorithm, body)} if algorithm else {}
            assert multipart_upload.part(number, body, **declared).status_code == 200
        return multipart_upload

    return send


def object_checksums(upload):
    """Return the checksum headers of the object, or its absence."""
    response = upload.head()
    if response.status_code == 404:
        return "absent"
    return {name: value for name, value in response.headers.items() if name.startswith("x-amz-checksum-")}


@pytest.mark.parametrize("algorithm", FULL)
def test_complete_accepts_the_full_object_checksum(algorithm, sent):
    upload, expected = sent(algorithm, "FULL_OBJECT"), checksum(algorithm, PART + REST)
    declared = {f"checksum_{algorithm.lower()}": expected, "checksum_type": "FULL_OBJECT"}
    # Full-object uploads need no part checksums at Complete.
    response = upload.complete(upload.bare(), **declared)
    answer = elements(response)
    assert (response.status_code, answer["ChecksumType"], answer[f"Checksum{algorithm}"]) == (
        200,
        "FULL_OBJECT",
        expected,
    )
    assert object_checksums(upload) == {
        f"x-amz-checksum-{algorithm.lower()}": expected,
        "x-amz-checksum-type": "FULL_OBJECT",
    }
    assert upload.get().content == PART + REST


@pytest.mark.parametrize("algorithm", COMPOSITE)
def test_complete_accepts_the_composite_checksum(algorithm, sent):
    upload = sent(algorithm)
    expected = composite(algorithm, (checksum(algorithm, body) for body in (PART, REST)))
    assert expected.endswith("-2")
    response = upload.complete(**{f"checksum_{algorithm.lower()}": expected})
    answer = elements(response)
    assert (response.status_code, answer["ChecksumType"], answer[f"Checksum{algorithm}"]) == (
        200,
        "COMPOSITE",
        expected,
    )
    assert object_checksums(upload) == {
        f"x-amz-checksum-{algorithm.lower()}": expected,
        "x-amz-checksum-type": "COMPOSITE",
    }


def test_the_checksums_are_those_that_aws_computed(multipart_upload):
    part = b"a" * (5 * 1024**2 + 1)
    parts, expected = [part, part, part[:10]], {}
    for algorithm, checksum_type in (
        ("CRC32", "COMPOSITE"),
        ("SHA256", "COMPOSITE"),
        ("CRC32", "FULL_OBJECT"),
        ("CRC64NVME", "FULL_OBJECT"),
    ):
        multipart_upload.create(checksum_algorithm=algorithm, checksum_type=checksum_type)
        for number, body in enumerate(parts, 1):
            declared = {f"checksum_{algorithm.lower()}": checksum(algorithm, body)}
            assert multipart_upload.part(number, body, **declared).status_code == 200
        answer = elements(multipart_upload.complete())
        assert answer["ETag"] == '"4d45984fc3feb2ac9b22683c49674b56-3"'
        expected[algorithm, checksum_type] = answer[f"Checksum{algorithm}"]
    assert expected == {
        ("CRC32", "COMPOSITE"): "5FRUiw==-3",
        ("SHA256", "COMPOSITE"): "9o++y6AejqboiJ7MZCx0fahK2Vu5YC/qnNhhYsCLciI=-3",
        ("CRC32", "FULL_OBJECT"): "qSEQSA==",
        ("CRC64NVME", "FULL_OBJECT"): "ZMNX55lZurA=",
    }


@pytest.mark.parametrize(
    ("algorithm", "checksum_type", "declared"),
    [
        ("CRC32C", "FULL_OBJECT", {"checksum_crc32c": "wrong", "checksum_type": "FULL_OBJECT"}),
        ("CRC64NVME", "FULL_OBJECT", {"checksum_crc64nvme": "wrong"}),
        # Without a type the header means CRC32C's default type, COMPOSITE.
        ("CRC32C", "FULL_OBJECT", {"checksum_crc32c": "right"}),
        ("CRC32C", "FULL_OBJECT", {"checksum_crc32c": "composite"}),
        ("CRC32C", "FULL_OBJECT", {"checksum_crc64nvme": "right"}),
        ("CRC32C", "FULL_OBJECT", {"checksum_crc32": "wrong", "checksum_type": "FULL_OBJECT"}),
        ("SHA256", "COMPOSITE", {"checksum_sha256": "wrong"}),
        ("SHA256", "COMPOSITE", {"checksum_sha256": "right"}),
        ("SHA256", "COMPOSITE", {"checksum_crc32": "right"}),
    ],
)
def test_complete_refuses_another_checksum_of_the_object(algorithm, checksum_type, declared, sent):
    upload = sent(algorithm, checksum_type, [REST])
    values = {"wrong": lambda name: checksum(name, b"other"), "right": lambda name: checksum(name, REST)}
    values["composite"] = lambda name: composite(name, [checksum(name, REST)])
    headers = {
        name: values[value](name.removeprefix("checksum_").upper()) if value in values else value
        for name, value in declared.items()
    }
    expected = f"The {algorithm.lower()} you specified did not match the calculated checksum."
    assert message(upload.complete(**headers)) == (400, "BadDigest", expected)
    assert object_checksums(upload) == "absent"
    assert upload.complete().status_code == 200


def test_complete_accepts_a_crc64nvme_without_its_type(sent):
    upload = sent("CRC64NVME", "", [REST])
    assert upload.complete(checksum_crc64nvme=checksum("CRC64NVME", REST)).status_code == 200


@pytest.mark.parametrize("header", ["checksum_crc32c", "checksum_crc64nvme"])
def test_complete_ignores_the_objects_checksum_if_create_named_no_algorithm(header, sent):
    upload = sent(parts=[REST])
    wrong = checksum(header.removeprefix("checksum_").upper(), b"other")
    response = upload.complete(upload.bare(), **{header: wrong})
    assert (response.status_code, elements(response)["ChecksumCRC64NVME"]) == (200, checksum("CRC64NVME", REST))


@pytest.mark.parametrize("value", ["no-base64", "AAAA", "AAAAAA==-", "AAAAAA==-x", "AAAAAA==-1-2", "AAAAAA==--3"])
def test_complete_refuses_an_ill_formed_checksum(value, sent):
    upload = sent("CRC32", "", [REST])
    expected = (400, "InvalidRequest", "Value for x-amz-checksum-crc32 header is invalid.")
    assert message(upload.complete(checksum_crc32=value)) == expected
    assert object_checksums(upload) == "absent"


def test_complete_refuses_two_checksums(sent):
    upload = sent("CRC32", "", [REST])
    refused = upload.complete(checksum_crc32="AAAAAA==-1", checksum_crc32c="AAAAAA==-1")
    assert message(refused) == (
        400,
        "InvalidRequest",
        "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
    )


@pytest.mark.parametrize(("algorithm", "checksum_type"), [("CRC32", "COMPOSITE"), ("CRC64NVME", "FULL_OBJECT")])
def test_complete_refuses_a_part_with_another_checksum(algorithm, checksum_type, sent):
    upload = sent(algorithm, checksum_type)
    wrong = upload.bare()
    wrong[0][f"Checksum{algorithm}"] = checksum(algorithm, b"other")
    wrong[1][f"Checksum{algorithm}"] = checksum(algorithm, REST)
    response = upload.complete(wrong)
    found = elements(response)
    assert refusal(response) == (400, "InvalidPart")
    assert (found["PartNumber"], f'"{found["ETag"]}"', found["UploadId"]) == ("1", wrong[0]["ETag"], upload.id)
    assert object_checksums(upload) == "absent"


def test_complete_refuses_a_composite_upload_without_the_checksum_of_a_part(sent):
    upload = sent("SHA256")
    parts = [upload.listed[0], upload.bare()[1]]
    assert message(upload.complete(parts)) == (
        400,
        "InvalidRequest",
        "The upload was created using a sha256 checksum. The complete request must include the checksum for each part. "
        "It was missing for part 2 in the request.",
    )
    assert object_checksums(upload) == "absent"


@pytest.mark.parametrize(("algorithm", "checksum_type"), [("CRC32", "COMPOSITE"), ("CRC32C", "FULL_OBJECT")])
def test_complete_refuses_a_part_with_a_checksum_by_another_algorithm(algorithm, checksum_type, sent):
    upload = sent(algorithm, checksum_type, [REST])
    parts = [upload.bare()[0] | {"ChecksumSHA256": checksum("SHA256", REST)}]
    expected = "The sha256 you specified for part 1 did not match what we received."
    assert message(upload.complete(parts)) == (400, "BadDigest", expected)


@pytest.mark.parametrize("algorithm", ["CRC64NVME", "CRC32C"])
def test_complete_refuses_part_checksums_if_create_named_no_algorithm(algorithm, sent):
    upload = sent(parts=[REST])
    parts = [upload.bare()[0] | {f"Checksum{algorithm}": checksum(algorithm, REST)}]
    assert refusal(upload.complete(parts)) == (400, "InvalidPart")
    assert object_checksums(upload) == "absent"


@pytest.mark.parametrize(
    ("checksums", "value"),
    [
        ({"ChecksumCRC32": "invalid_checksum"}, "invalid_checksum"),
        (
            {"ChecksumCRC32": "AAAAAA==", "ChecksumSHA1": "Kq5sNclPz7QV2+lfQIuc6R7oRu0="},
            "CRC32:AAAAAA==;SHA1:Kq5sNclPz7QV2+lfQIuc6R7oRu0=;",
        ),
    ],
    ids=["ill-formed", "two"],
)
def test_complete_refuses_what_is_not_one_part_checksum(checksums, value, sent):
    upload = sent("CRC32", "", [REST])
    response = upload.complete([upload.bare()[0] | checksums])
    found = elements(response)
    assert message(response) == (400, "InvalidArgument", "Invalid Base64 or multiple checksums present in request")
    assert (found["ArgumentName"], found["ArgumentValue"]) == ("Checksum", value)


@pytest.mark.parametrize(
    ("created", "at_complete", "mode"),
    [
        (("CRC32", "COMPOSITE"), "FULL_OBJECT", "COMPOSITE"),
        (("CRC32C", "FULL_OBJECT"), "COMPOSITE", "FULL_OBJECT"),
        (("", ""), "FULL_OBJECT", "null"),
        (("", ""), "COMPOSITE", "null"),
    ],
)
def test_complete_refuses_another_checksum_type(created, at_complete, mode, sent):
    upload = sent(*created, [REST])
    assert message(upload.complete(checksum_type=at_complete)) == (
        400,
        "InvalidRequest",
        NULL_MODE.replace("null", mode),
    )
    assert object_checksums(upload) == "absent"


def test_complete_refuses_an_unknown_checksum_type(sent):
    upload = sent("CRC32", "", [REST])
    expected = (400, "InvalidRequest", "Value for x-amz-checksum-type header is invalid.")
    assert message(upload.complete(checksum_type="HALF_OBJECT")) == expected


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("11", "The provided 'x-amz-mp-object-size' header value 11 does not match what was computed: 10"),
        ("0", "The provided 'x-amz-mp-object-size' header value 0 does not match what was computed: 10"),
        ("-1", "Value for x-amz-mp-object-size header is less than zero: '-1'"),
        ("ten", "Value for x-amz-mp-object-size header is invalid: 'ten'"),
    ],
)
def test_complete_refuses_another_size_of_the_object(size, expected, sent):
    upload = sent(parts=[REST])
    assert message(upload.complete(upload.bare(), mp_object_size=size)) == (400, "InvalidRequest", expected)
    assert object_checksums(upload) == "absent"
    assert upload.complete(upload.bare(), mp_object_size="10").status_code == 200


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("checksum_type", ["", "COMPOSITE", "FULL_OBJECT"])
def test_create_answers_with_the_type_or_refuses_it(algorithm, checksum_type, multipart_upload):
    headers = {"checksum_algorithm": algorithm} | ({"checksum_type": checksum_type} if checksum_type else {})
    response = multipart_upload.create(**headers)
    allowed = {"CRC32": ["COMPOSITE", "FULL_OBJECT"], "CRC32C": ["COMPOSITE", "FULL_OBJECT"]}
    types = allowed.get(algorithm, ["FULL_OBJECT" if algorithm == "CRC64NVME" else "COMPOSITE"])
    if checksum_type and checksum_type not in types:
        expected = f"The {checksum_type} checksum type cannot be used with the {algorithm.lower()} checksum algorithm."
        assert message(response) == (400, "InvalidRequest", expected)
    else:
        found = response.headers["x-amz-checksum-algorithm"], response.headers["x-amz-checksum-type"]
        assert found == (algorithm, checksum_type or types[0])


@pytest.mark.parametrize("checksum_type", ["COMPOSITE", "FULL_OBJECT"])
def test_create_refuses_a_checksum_type_without_an_algorithm(checksum_type, multipart_upload):
    assert message(multipart_upload.create(checksum_type=checksum_type)) == (
        400,
        "InvalidRequest",
        "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.",
    )


def test_create_refuses_an_unknown_algorithm(multipart_upload):
    assert message(multipart_upload.create(checksum_algorithm="TEST")) == (
        400,
        "InvalidRequest",
        "Checksum algorithm provided is unsupported. Please try again with any of the valid types: "
        "[CRC32, CRC32C, CRC64NVME, MD5, SHA1, SHA256, SHA512, XXHASH128, XXHASH3, XXHASH64]",
    )


def test_create_takes_algorithm_and_type_in_any_case(multipart_upload):
    response = multipart_upload.create(checksum_algorithm="crc32", checksum_type="full_object")
    found = response.headers["x-amz-checksum-algorithm"], response.headers["x-amz-checksum-type"]
    assert found == ("CRC32", "FULL_OBJECT")


def test_create_answers_no_checksum_algorithm_unasked(multipart_upload):
    response = multipart_upload.create()
    assert not [name for name in response.headers if name.startswith("x-amz-checksum")]


@pytest.mark.parametrize(
    ("algorithm", "checksum_type", "declared", "actual"),
    [
        ("SHA256", "COMPOSITE", {"checksum_crc32": checksum("CRC32", REST)}, "crc32"),
        ("CRC32C", "FULL_OBJECT", {"checksum_crc32": checksum("CRC32", REST)}, "crc32"),
        ("CRC32", "COMPOSITE", {}, "null"),
        ("SHA1", "COMPOSITE", {}, "null"),
    ],
)
def test_a_part_keeps_to_the_uploads_algorithm(algorithm, checksum_type, declared, actual, multipart_upload):
    multipart_upload.create(checksum_algorithm=algorithm, checksum_type=checksum_type)
    assert message(multipart_upload.part(1, REST, **declared)) == (
        400,
        "InvalidRequest",
        f"Checksum Type mismatch occurred, expected checksum Type: {algorithm.lower()}, actual checksum Type: {actual}",
    )
    assert nested(multipart_upload.list_parts(), "Part") == []


@pytest.mark.parametrize("algorithm", FULL)
def test_a_part_of_a_full_object_upload_may_declare_no_checksum(algorithm, multipart_upload):
    multipart_upload.create(checksum_algorithm=algorithm, checksum_type="FULL_OBJECT")
    response = multipart_upload.part(1, REST)
    assert response.headers[f"x-amz-checksum-{algorithm.lower()}"] == checksum(algorithm, REST)
    assert elements(multipart_upload.complete())[f"Checksum{algorithm}"] == checksum(algorithm, REST)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_part_with_a_wrong_checksum_is_refused(algorithm, multipart_upload):
    multipart_upload.create()
    header = f"checksum_{algorithm.lower()}"
    expected = f"Value for x-amz-checksum-{algorithm.lower()} header is invalid."
    assert message(multipart_upload.part(1, REST, **{header: "1234567"})) == (400, "InvalidRequest", expected)
    expected = f"The {algorithm} you specified did not match the calculated checksum."
    refused = multipart_upload.part(1, REST, **{header: checksum(algorithm, b"other")})
    assert message(refused) == (400, "BadDigest", expected)
    assert nested(multipart_upload.list_parts(), "Part") == []


def test_a_part_with_a_checksum_by_an_unknown_algorithm_is_refused(multipart_upload):
    multipart_upload.create()
    assert message(multipart_upload.part(1, REST, checksum_crc16="AAA=")) == (
        400,
        "InvalidRequest",
        "The algorithm type you specified in x-amz-checksum- header is invalid.",
    )


def test_a_part_whose_sdk_algorithm_is_not_that_of_its_checksum_is_refused(multipart_upload):
    multipart_upload.create()
    declared = {"checksum_crc32": checksum("CRC32", REST), "sdk_checksum_algorithm": "SHA1"}
    expected = "Value for x-amz-sdk-checksum-algorithm header is invalid."
    assert message(multipart_upload.part(1, REST, **declared)) == (400, "InvalidRequest", expected)
