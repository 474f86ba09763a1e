"""Bodies as the SDKs stream them over https: in unsigned chunks, with the checksum behind them."""

import base64
import zlib

import httpx
import pytest

from tests.s3.forms import error_code

BODY = b"0123456789" * 1000
CRC32 = base64.b64encode(zlib.crc32(BODY).to_bytes(4, "big")).decode()


def chunked(body: bytes, trailer: str, sizes: tuple[int, ...] = (8192, 8192)) -> bytes:
    """Encode a body in chunks, and a trailer behind them."""
    encoded, position = b"", 0
    for size in sizes:
        piece = body[position : position + size]
        position += size
        encoded += f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
    return encoded + b"0\r\n" + trailer.encode() + b"\r\n"


def put(requests, content: bytes, *, trailer: str = "x-amz-checksum-crc32", length: int | str = len(BODY)):
    """PUT a body that is encoded already."""
    url = requests.url("new")
    said = {
        "x-amz-decoded-content-length": str(length),
        "content-encoding": "aws-chunked",
    }
    if trailer:
        said["x-amz-trailer"] = trailer
    headers = requests.signed_headers("PUT", url, said, in_unsigned_chunks=True)
    return httpx.put(url, headers=headers, content=content)


def test_the_bytes_and_their_trailing_checksum_are_stored(requests, s3_client, bucket):
    response = put(requests, chunked(BODY, f"x-amz-checksum-crc32:{CRC32}\r\n"))
    assert response.status_code == 200
    assert response.headers["x-amz-checksum-crc32"] == CRC32
    found = s3_client.get_object(Bucket=bucket, Key="new")
    assert found["Body"].read() == BODY
    assert "ContentEncoding" not in found


@pytest.mark.parametrize(
    ("content", "arguments", "code"),
    [
        (chunked(BODY, "x-amz-checksum-crc32:AAAAAA==\r\n"), {}, "BadDigest"),
        (chunked(BODY, ""), {}, "MalformedTrailerError"),
        (chunked(BODY, f"x-amz-checksum-crc32:{CRC32}\r\n"), {"trailer": ""}, "MalformedTrailerError"),
        (chunked(BODY, f"x-amz-checksum-crc32:{CRC32}\r\n"), {"length": 1}, "IncompleteBody"),
        (chunked(BODY, f"x-amz-checksum-crc32:{CRC32}\r\n"), {"length": "x"}, "InvalidArgument"),
        (BODY, {}, "IncompleteBody"),
        (chunked(BODY, f"x-amz-checksum-crc32:{CRC32}\r\n")[:9000], {}, "IncompleteBody"),
        (b"zz\r\n", {}, "IncompleteBody"),
    ],
    ids=[
        "a wrong checksum",
        "no trailer",
        "a trailer not announced",
        "another length",
        "a length that is no number",
        "no chunks",
        "an end too soon",
        "no size",
    ],
)
def test_a_body_is_refused_and_not_stored(content, arguments, code, requests, stored):
    response = put(requests, content, **arguments)
    assert (response.status_code, error_code(response)) == (400, code)
    assert stored() == []
