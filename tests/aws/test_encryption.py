"""Judging encrypted objects: what their ETags and checksums prove, in the answers that S3 gives to HEAD and to copies.

Sources: Amazon S3 API Reference, "Object" (ETag), "HeadObject", "CopyObject"; Amazon S3 User Guide, "Checking object
integrity" (a composite checksum is one of the parts' checksums).
"""

from dataclasses import replace

import pytest

from broker.domain.media import Arrived
from tests.support.scripted import MD5, Reply, bucket_at, scripted

OPAQUE = "0f3c" * 8
"""An ETag of the form of an MD5 that is none, as SSE-KMS gives."""
KMS = {"x-amz-server-side-encryption": "aws:kms", "x-amz-server-side-encryption-aws-kms-key-id": "arn:aws:kms:::key/1"}
DSSE = {**KMS, "x-amz-server-side-encryption": "aws:kms:dsse"}
S3_KEYS = {"x-amz-server-side-encryption": "AES256"}
CUSTOMER = {"x-amz-server-side-encryption-customer-algorithm": "AES256"}
CRC = {"x-amz-checksum-crc64nvme": "AAAAAAAAAAA=", "x-amz-checksum-type": "FULL_OBJECT"}
COMPOSITE = {"x-amz-checksum-sha256": "c2hhMjU2-2", "x-amz-checksum-type": "COMPOSITE"}
JUDGED = Arrived(size=7, etag=MD5, content_type="video/mp4", checksum="CRC64NVME:AAAAAAAAAAA=")


def head(**headers: str) -> Reply:
    return Reply(headers={"content-length": "7", "content-type": "video/mp4", "etag": f'"{MD5}"', **headers})


def copied(headers: dict[str, str], etag: str, checksum: str = "", kind: str = "FULL_OBJECT") -> Reply:
    algorithm, _, value = checksum.partition(":")
    told = f"<Checksum{algorithm}>{value}</Checksum{algorithm}>" if checksum else ""
    told += f"<ChecksumType>{kind}</ChecksumType>" if kind else ""
    return Reply(
        body=f"<CopyObjectResult><ETag>&quot;{etag}&quot;</ETag>{told}</CopyObjectResult>".encode(), headers=headers
    )


@pytest.mark.parametrize(
    ("headers", "etag_is_md5", "checksum"),
    [
        ({}, True, None),
        (S3_KEYS, True, None),
        (S3_KEYS | CRC, True, "CRC64NVME:AAAAAAAAAAA="),
        (KMS, False, None),
        (KMS | CRC, False, "CRC64NVME:AAAAAAAAAAA="),
        (DSSE | CRC, False, "CRC64NVME:AAAAAAAAAAA="),
        (CUSTOMER, False, None),
        (S3_KEYS | CUSTOMER, False, None),
        (S3_KEYS | COMPOSITE, True, None),
        (KMS | COMPOSITE, False, None),
        ({"x-amz-checksum-crc32": "AAAAAA=="}, True, "CRC32:AAAAAA=="),
    ],
)
async def test_a_head_says_what_its_etag_and_checksum_prove(
    headers: dict[str, str], etag_is_md5: bool, checksum: str | None
) -> None:
    async with scripted(head(**headers)) as server:
        bucket = bucket_at(server.url)
        arrived = await bucket.head("staging")
        await bucket.close()
    assert arrived == replace(JUDGED, checksum=checksum, etag_is_md5=etag_is_md5)


UNENCRYPTED, OPAQUELY = JUDGED, replace(JUDGED, etag_is_md5=False)
NO_CHECKSUM = replace(OPAQUELY, checksum=None)
GOOD, BAD = "CRC64NVME:AAAAAAAAAAA=", "CRC64NVME:BBBBBBBBBBB="


@pytest.mark.parametrize(
    ("judged", "answer", "outcome"),
    [
        (UNENCRYPTED, copied(S3_KEYS, MD5), True),
        (UNENCRYPTED, copied(S3_KEYS, OPAQUE), False),
        (UNENCRYPTED, copied(S3_KEYS, MD5, BAD), False),
        (UNENCRYPTED, copied(KMS, OPAQUE, GOOD), True),
        (UNENCRYPTED, copied(KMS, OPAQUE, BAD), False),
        (UNENCRYPTED, copied(CUSTOMER, OPAQUE, GOOD), True),
        (OPAQUELY, copied(KMS, "another", GOOD), True),
        (OPAQUELY, copied(DSSE, "another", GOOD), True),
        (OPAQUELY, copied(KMS, "another", GOOD, kind=""), True),
        (OPAQUELY, copied(KMS, OPAQUE, BAD), False),
        (OPAQUELY, copied(S3_KEYS, OPAQUE, GOOD), True),
    ],
)
async def test_a_copys_answer_decides_where_it_can(judged: Arrived, answer: Reply, outcome: bool) -> None:
    async with scripted(answer) as server:
        bucket = bucket_at(server.url)
        assert await bucket.promote("staging", "media", judged) is outcome
        await bucket.close()
    assert server.requests == ["PUT /videos/media"]


@pytest.mark.parametrize(
    ("judged", "answer", "found", "outcome"),
    [
        (OPAQUELY, copied(KMS, "another"), head(**KMS, **CRC), True),
        (OPAQUELY, copied(KMS, "another"), head(**KMS), False),
        (NO_CHECKSUM, copied(KMS, MD5), head(**KMS, **CRC), False),
        (NO_CHECKSUM, copied(KMS, MD5), head(**KMS), False),
        (OPAQUELY, copied(KMS, "another", GOOD, "COMPOSITE"), head(**KMS, **COMPOSITE), False),
    ],
    ids=["its checksum is equal", "without a checksum", "none was judged", "equal ETags prove nothing", "composite"],
)
async def test_a_head_of_the_copy_decides_where_its_answer_cannot(
    judged: Arrived, answer: Reply, found: Reply, outcome: bool
) -> None:
    async with scripted(answer, found) as server:
        bucket = bucket_at(server.url)
        assert await bucket.promote("staging", "media", judged) is outcome
        await bucket.close()
    assert server.requests == ["PUT /videos/media", "HEAD /videos/media"]
