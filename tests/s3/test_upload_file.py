"""boto3's `upload_file`, with each checksum algorithm and size of part."""

import boto3
import pytest
from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from broker.dev.s3.checksums import ALGORITHMS, composite
from tests.s3.multipart import checksum

MIB = 1024**2
CONTENT = bytes(range(256)) * (12 * MIB // 256) + b"the end"
# botocore computes no MD5 of its own, and takes it from the caller only.
COMPUTED = [algorithm for algorithm in ALGORITHMS if algorithm != "MD5"]
FULL = ["CRC32", "CRC32C", "CRC64NVME"]


@pytest.fixture
def s3(embedded_s3):
    """Return a boto3 client with its defaults."""
    return boto3.client(
        "s3",
        endpoint_url=embedded_s3.endpoint_url,
        aws_access_key_id=embedded_s3.access_key,
        aws_secret_access_key=embedded_s3.secret_key,
        region_name=embedded_s3.region,
    )


@pytest.fixture
def upload(s3, bucket, tmp_path):
    """Return a function that uploads the content in parts of a size, and returns what HEAD says of it."""
    film = tmp_path / "film.mp4"
    film.write_bytes(CONTENT)

    def send(part_size, **arguments):
        config = TransferConfig(multipart_threshold=part_size, multipart_chunksize=part_size)
        s3.upload_file(str(film), bucket, "film.mp4", ExtraArgs=arguments, Config=config)
        # boto3 compares the checksum of what it reads, if it can.
        assert s3.get_object(Bucket=bucket, Key="film.mp4")["Body"].read() == CONTENT
        return s3.head_object(Bucket=bucket, Key="film.mp4", ChecksumMode="ENABLED")

    return send


def parts(part_size):
    """Return the bytes of each part."""
    return [CONTENT[start : start + part_size] for start in range(0, len(CONTENT), part_size)]


@pytest.mark.parametrize("part_size", [5 * MIB, 8 * MIB, 16 * MIB])
@pytest.mark.parametrize("algorithm", COMPUTED)
def test_with_a_checksum_algorithm(algorithm, part_size, upload):
    head = upload(part_size, ChecksumAlgorithm=algorithm)
    in_parts = part_size < len(CONTENT)
    if in_parts and algorithm != "CRC64NVME":
        expected = "COMPOSITE", composite(algorithm, [checksum(algorithm, part) for part in parts(part_size)])
    else:
        expected = "FULL_OBJECT", checksum(algorithm, CONTENT)
    assert (head["ChecksumType"], head[f"Checksum{algorithm}"]) == expected
    assert head["ETag"].endswith(f'-{len(parts(part_size))}"') == in_parts


@pytest.mark.parametrize("part_size", [5 * MIB, 8 * MIB, 16 * MIB])
@pytest.mark.parametrize("algorithm", FULL)
def test_with_the_checksum_of_the_whole_file(algorithm, part_size, upload):
    head = upload(part_size, **{f"Checksum{algorithm}": checksum(algorithm, CONTENT)})
    assert (head["ChecksumType"], head[f"Checksum{algorithm}"]) == ("FULL_OBJECT", checksum(algorithm, CONTENT))


@pytest.mark.parametrize("algorithm", FULL)
def test_a_wrong_checksum_of_the_whole_file_is_refused(algorithm, upload, s3, bucket):
    with pytest.raises(S3UploadFailedError, match="BadDigest"):
        upload(5 * MIB, **{f"Checksum{algorithm}": checksum(algorithm, b"other")})
    with pytest.raises(ClientError, match="404"):
        s3.head_object(Bucket=bucket, Key="film.mp4")
    # boto3 gives the upload up.
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


@pytest.mark.parametrize("part_size", [5 * MIB, 8 * MIB])
def test_with_the_size_of_the_whole_file(part_size, upload):
    assert upload(part_size, MpuObjectSize=len(CONTENT))["ContentLength"] == len(CONTENT)


def test_a_copy_in_parts(upload, s3, bucket):
    upload(5 * MIB, ChecksumAlgorithm="CRC64NVME")
    config = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)
    source = {"Bucket": bucket, "Key": "film.mp4"}
    s3.copy(source, bucket, "copy.mp4", ExtraArgs={"ChecksumAlgorithm": "CRC64NVME"}, Config=config)
    head = s3.head_object(Bucket=bucket, Key="copy.mp4", ChecksumMode="ENABLED")
    assert (head["ChecksumCRC64NVME"], head["ChecksumType"]) == (checksum("CRC64NVME", CONTENT), "FULL_OBJECT")
    assert head["ETag"].endswith('-3"')


def test_a_download_by_parts(upload, s3, bucket):
    upload(5 * MIB, ChecksumAlgorithm="CRC32")
    count = s3.head_object(Bucket=bucket, Key="film.mp4", PartNumber=1)["PartsCount"]
    read = [
        # boto3 compares the checksum of each part.
        s3.get_object(Bucket=bucket, Key="film.mp4", PartNumber=number, ChecksumMode="ENABLED")["Body"].read()
        for number in range(1, count + 1)
    ]
    assert read == parts(5 * MIB)
