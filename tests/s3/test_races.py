"""Many at once: conditions on a write hold at the moment at which it takes effect."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from botocore.exceptions import ClientError

from tests.s3.forms import TEN_BYTES

MIB = 1024 * 1024


def all_at_once(call, number=12):
    """Call with 0, 1, … from as many threads; return the answers."""
    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(call, range(number)))


@pytest.mark.parametrize("size", [10, MIB])
def test_one_of_many_first_puts_wins(size, requests, s3_client, bucket):
    bodies = [bytes([n]) * size for n in range(12)]
    answers = all_at_once(lambda n: requests.send("PUT", "a", {"If-None-Match": "*"}, bodies[n]))
    winners = [n for n, answer in enumerate(answers) if answer.status_code == 200]
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 11
    assert s3_client.get_object(Bucket=bucket, Key="a")["Body"].read() == bodies[winners[0]]


def test_one_of_many_copies_wins_where_nothing_was(requests, s3_client, bucket):
    s3_client.put_object(Bucket=bucket, Key="a", Body=bytes(MIB))
    # Another checksum has each copy read the whole object, so that they overlap.
    said = {
        "x-amz-copy-source": f"{bucket}/a",
        "If-None-Match": "*",
        "x-amz-checksum-algorithm": "SHA256",
    }
    answers = all_at_once(lambda _: requests.send("PUT", "b", said))
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 11


def test_a_copy_is_of_one_version_while_the_source_is_replaced(requests, s3_client, bucket):
    contents = [bytes([n]) * MIB for n in range(6)]
    s3_client.put_object(Bucket=bucket, Key="a", Body=contents[0])

    def replace_or_copy(n):
        if n % 2:
            return requests.send("PUT", "a", body=contents[n // 2])
        said = {"x-amz-copy-source": f"{bucket}/a", "x-amz-checksum-algorithm": "SHA1"}
        return requests.send("PUT", f"copy-{n}", said)

    assert {answer.status_code for answer in all_at_once(replace_or_copy)} == {200}
    for n in range(0, 12, 2):
        assert s3_client.get_object(Bucket=bucket, Key=f"copy-{n}")["Body"].read() in contents


def test_a_read_goes_on_while_its_object_is_replaced_and_deleted(requests, s3_client, bucket):
    s3_client.put_object(Bucket=bucket, Key="a", Body=b"x" * (8 * MIB))
    with httpx.stream("GET", requests.presign("a")) as response:
        chunks = response.iter_bytes()
        first = next(chunks)
        s3_client.put_object(Bucket=bucket, Key="a", Body=TEN_BYTES)
        s3_client.delete_object(Bucket=bucket, Key="a")
        assert first + b"".join(chunks) == b"x" * (8 * MIB)


def test_an_upload_in_parts_ends_once_however_many_end_it(s3_client, bucket, stored):
    upload = {"Bucket": bucket, "Key": "a"}
    upload["UploadId"] = s3_client.create_multipart_upload(**upload)["UploadId"]
    body = bytes(8 * MIB)
    parts = [
        {"PartNumber": n, "ETag": s3_client.upload_part(**upload, PartNumber=n, Body=body)["ETag"]}
        for n in (1, 2, 3, 4)
    ]

    def end(number):
        try:
            if number % 2:
                s3_client.abort_multipart_upload(**upload)
            else:
                s3_client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        except ClientError as error:
            return error.response["ResponseMetadata"]["HTTPStatusCode"]
        return "done"

    ends = all_at_once(end)
    completed, aborted = ends[::2], ends[1::2]
    if stored():
        # A repeated Complete gets the first one's answer.
        assert (completed, aborted) == (["done"] * 6, [404] * 6)
    else:
        assert (completed, sorted(aborted, key=str)) == ([404] * 6, [404] * 5 + ["done"])
