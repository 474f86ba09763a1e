"""AWS's own published examples of signatures, sent as they are to a server that lives on their day.

Source: Amazon S3 API Reference, "Examples: Signature Calculations", "Authenticating Requests: Using Query
Parameters", "Transferring Payload in Multiple Chunks" and "Example: Browser-Based Upload using HTTP POST".
"""

import base64
from datetime import UTC, datetime

import boto3
import httpx
import pytest

from broker.dev.s3 import start_embedded_s3
from tests.s3.forms import BOUNDARY, multipart

ACCESS_KEY, SECRET_KEY = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
CREDENTIAL = f"{ACCESS_KEY}/20130524/us-east-1/s3/aws4_request"
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def away(year, month, day):
    """Return how many seconds a day is away."""
    return (datetime(year, month, day, tzinfo=UTC) - datetime.now(UTC)).total_seconds()


@pytest.fixture(scope="module")
def examples():
    """Run the server of the examples."""
    with start_embedded_s3(
        credentials=[(ACCESS_KEY, SECRET_KEY)],
        buckets=["examplebucket", "sigv4examplebucket"],
        controlled=True,
    ) as s3:
        yield s3


@pytest.fixture
def in_2013(examples):
    """Set the clock to the day of the header and query examples."""
    examples.set_clock(away(2013, 5, 24))
    return examples


def authorization(signed_headers, signature):
    """Write an Authorization header as the examples do."""
    return f"AWS4-HMAC-SHA256 Credential={CREDENTIAL},SignedHeaders={signed_headers},Signature={signature}"


def put_test_txt(s3):
    """PUT of the examples, under the key that the GET examples read, with the bytes they expect."""
    return httpx.put(
        f"{s3.endpoint_url}/test$file.text",
        content=b"Welcome to Amazon S3.",
        headers={
            "Host": "examplebucket.s3.amazonaws.com",
            "Date": "Fri, 24 May 2013 00:00:00 GMT",
            "x-amz-date": "20130524T000000Z",
            "x-amz-storage-class": "REDUCED_REDUNDANCY",
            "x-amz-content-sha256": "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
            "Authorization": authorization(
                "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
                "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
            ),
        },
    )


def test_put_object(in_2013):
    assert put_test_txt(in_2013).status_code == 200


def test_get_object_with_a_range_is_believed(in_2013):
    response = httpx.get(
        f"{in_2013.endpoint_url}/test.txt",
        headers={
            "Host": "examplebucket.s3.amazonaws.com",
            "Range": "bytes=0-9",
            "x-amz-content-sha256": EMPTY,
            "x-amz-date": "20130524T000000Z",
            "Authorization": authorization(
                "host;range;x-amz-content-sha256;x-amz-date",
                "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            ),
        },
    )
    # Whom S3 believes, it tells that there is no such key.
    assert b"<Code>NoSuchKey</Code>" in response.content


def test_list_objects(in_2013):
    response = httpx.get(
        f"{in_2013.endpoint_url}/?max-keys=2&prefix=J",
        headers={
            "Host": "examplebucket.s3.amazonaws.com",
            "x-amz-content-sha256": EMPTY,
            "x-amz-date": "20130524T000000Z",
            "Authorization": authorization(
                "host;x-amz-content-sha256;x-amz-date",
                "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            ),
        },
    )
    assert response.status_code == 200
    assert b"<Prefix>J</Prefix>" in response.content


def presigned(signature):
    """Return the path of the presigned example."""
    return (
        "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        f"&X-Amz-Credential={CREDENTIAL.replace('/', '%2F')}&X-Amz-Date=20130524T000000Z"
        f"&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature={signature}"
    )


@pytest.mark.parametrize(
    ("signature", "code"),
    [
        ("aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404", b"NoSuchKey"),
        ("beeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404", b"SignatureDoesNotMatch"),
    ],
    ids=["as published", "with one digit changed"],
)
def test_a_presigned_get(signature, code, in_2013):
    headers = {"Host": "examplebucket.s3.amazonaws.com"}
    response = httpx.get(f"{in_2013.endpoint_url}{presigned(signature)}", headers=headers)
    assert b"<Code>" + code + b"</Code>" in response.content


CHUNKS = [
    (65536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
    (1024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
    (0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
]


@pytest.mark.parametrize(
    ("spoil", "status"),
    [
        (lambda body: body, 200),
        (lambda body: body.replace(b"aaaa", b"aaab", 1), 403),
        (lambda body: body.replace(b"0;chunk-signature=b6", b"0;chunk-signature=c6"), 403),
    ],
    ids=["as published", "with another byte", "with another last signature"],
)
def test_a_body_in_signed_chunks(spoil, status, in_2013):
    body = b"".join(
        f"{size:x};chunk-signature={signature}\r\n".encode() + b"a" * size + b"\r\n" for size, signature in CHUNKS
    )
    assert len(body) == 66824
    response = httpx.put(
        f"{in_2013.endpoint_url}/examplebucket/chunkObject.txt",
        content=spoil(body),
        headers={
            "Host": "s3.amazonaws.com",
            "x-amz-date": "20130524T000000Z",
            "x-amz-storage-class": "REDUCED_REDUNDANCY",
            "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
            "Content-Encoding": "aws-chunked",
            "x-amz-decoded-content-length": "66560",
            "Authorization": authorization(
                "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;"
                "x-amz-decoded-content-length;x-amz-storage-class",
                "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
            ),
        },
    )
    assert response.status_code == status


TRAILED_CHUNKS = [
    (65536, "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2"),
    (1024, "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7"),
    (0, "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992"),
]


@pytest.mark.parametrize(
    ("checksum", "signature", "code"),
    [
        ("sOO8/Q==", "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435", b""),
        ("sOO8/Q==", "e81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435", b"SignatureDoesNotMatch"),
        ("sOO8/w==", "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435", b"SignatureDoesNotMatch"),
    ],
    ids=["as published", "with another signature", "with another checksum"],
)
def test_a_body_in_signed_chunks_with_a_trailer(checksum, signature, code, in_2013):
    body = b"".join(
        f"{size:x};chunk-signature={signature}\r\n".encode() + b"a" * size + (b"\r\n" if size else b"")
        for size, signature in TRAILED_CHUNKS
    )
    body += f"x-amz-checksum-crc32c:{checksum}\r\nx-amz-trailer-signature:{signature}\r\n\r\n".encode()
    response = httpx.put(
        f"{in_2013.endpoint_url}/examplebucket/chunkObject.txt",
        content=body,
        headers={
            "Host": "s3.amazonaws.com",
            "x-amz-date": "20130524T000000Z",
            "x-amz-storage-class": "REDUCED_REDUNDANCY",
            "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
            "Content-Encoding": "aws-chunked",
            "x-amz-decoded-content-length": "66560",
            "x-amz-trailer": "x-amz-checksum-crc32c",
            "Authorization": authorization(
                "content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;"
                "x-amz-storage-class;x-amz-trailer",
                "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
            ),
        },
    )
    if code:
        assert b"<Code>" + code + b"</Code>" in response.content
    else:
        assert response.headers["x-amz-checksum-crc32c"] == checksum


POLICY = """{ "expiration": "2015-12-30T12:00:00.000Z",
  "conditions": [
    {"bucket": "sigv4examplebucket"},
    ["starts-with", "$key", "user/user1/"],
    {"acl": "public-read"},
    {"success_action_redirect": "http://sigv4examplebucket.s3.amazonaws.com/successful_upload.html"},
    ["starts-with", "$Content-Type", "image/"],
    {"x-amz-meta-uuid": "14365123651274"},
    {"x-amz-server-side-encryption": "AES256"},
    ["starts-with", "$x-amz-meta-tag", ""],

    {"x-amz-credential": "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request"},
    {"x-amz-algorithm": "AWS4-HMAC-SHA256"},
    {"x-amz-date": "20151229T000000Z" }
  ]
}"""


def test_a_post_with_the_published_policy_and_signature(examples):
    allow_acls(examples, "sigv4examplebucket")
    examples.set_clock(away(2015, 12, 29))
    fields = {
        "key": "user/user1/${filename}",
        "acl": "public-read",
        "success_action_redirect": "http://sigv4examplebucket.s3.amazonaws.com/successful_upload.html",
        "Content-Type": "image/jpeg",
        "x-amz-meta-uuid": "14365123651274",
        "x-amz-server-side-encryption": "AES256",
        "X-Amz-Credential": "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request",
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Date": "20151229T000000Z",
        "x-amz-meta-tag": "",
        "Policy": base64.b64encode(POLICY.replace("\n", "\r\n").encode()).decode(),
        "X-Amz-Signature": "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e",
    }
    body = multipart([*((name, value, None) for name, value in fields.items()), ("file", b"jpeg", "a.jpg")])
    response = httpx.post(
        examples.endpoint_url,
        content=body,
        headers={
            "Host": "sigv4examplebucket.s3.amazonaws.com",
            "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
        },
    )
    assert response.status_code == 303
    assert response.headers["location"].startswith(
        "http://sigv4examplebucket.s3.amazonaws.com/successful_upload.html?bucket=sigv4examplebucket"
        "&key=user%2Fuser1%2Fa.jpg&etag="
    )


def allow_acls(s3, bucket):
    """Let a bucket take ACLs, as all did in the year of the example."""
    s3.set_clock(0)
    boto3.client(
        "s3",
        endpoint_url=s3.endpoint_url,
        aws_access_key_id=s3.access_key,
        aws_secret_access_key=s3.secret_key,
        region_name=s3.region,
    ).put_bucket_ownership_controls(
        Bucket=bucket, OwnershipControls={"Rules": [{"ObjectOwnership": "BucketOwnerPreferred"}]}
    )
