"""The request that each operation sends to S3, and its reading of the answer.

Source: Amazon S3 API Reference, the page of each operation.
"""

import hashlib
from base64 import b64encode
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from freezegun import freeze_time

from broker import metrics
from broker.aws import client
from broker.aws.bucket import Bucket
from broker.aws.multipart import Copied
from broker.domain.media import Arrived
from broker.domain.parts import StoredPart
from broker.domain.s3.properties import ObjectProperties
from broker.domain.s3.sigv4 import Address, signed_headers
from broker.errors import StorageRefused, StorageUnavailable
from tests.support.scripted import KEYS, MD5, Reply, bucket_at, scripted

OTHER_MD5 = "0f3c" * 8
BELOW = "staging/7a/0190a1b2-c3d4-7e5f-8a6b-7c8d9eafb07a/"
QUOTED = BELOW.replace("/", "%2F")
PROPERTIES = ObjectProperties(
    encryption="aws:kms",
    kms_key_id="a-key",
    tags=(("team", "a&b"),),
    storage_class="INTELLIGENT_TIERING",
    cache_control="private",
)
FINAL = {
    "x-amz-server-side-encryption": "aws:kms",
    "x-amz-server-side-encryption-aws-kms-key-id": "a-key",
    "x-amz-tagging": "team=a%26b",
    "x-amz-storage-class": "INTELLIGENT_TIERING",
    "cache-control": "private",
}
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
XML = {"content-type": "application/xml"}
OF_EACH_REQUEST = {
    "authorization",
    "content-length",
    "host",
    "user-agent",
    "x-amz-content-sha256",
    "x-amz-date",
}

Call = Callable[[Bucket], Awaitable[Any]]
Sent = tuple[str, str, dict[str, str], str]
"""The operation that the metrics name, then method and path, headers and body."""


def xml(root: str, *entries: str) -> Reply:
    return Reply(body=f'<{root} xmlns="{NAMESPACE}">{"".join(entries)}</{root}>'.encode())


def listed(number: int, size: int, etag: str = MD5) -> str:
    key = f"<Key>{BELOW}{number:05}</Key>"
    return f"<Contents>{key}<Size>{size}</Size><ETag>&quot;{etag}&quot;</ETag></Contents>"


def version(key: str, number: int, kind: str = "Version") -> str:
    return f"<{kind}><Key>{key}</Key><VersionId>v{number}</VersionId></{kind}>"


def deletion(*entries: str) -> str:
    return f'<Delete xmlns="{NAMESPACE}">{"".join(f"<Object>{entry}</Object>" for entry in entries)}</Delete>'


def deleting(body: str) -> Sent:
    digest = b64encode(hashlib.md5(body.encode(), usedforsecurity=False).digest()).decode()
    return "delete_objects", "POST /videos/?delete=", XML | {"content-md5": digest}, body


def part(number: int, etag: str) -> str:
    return f"<Part><PartNumber>{number}</PartNumber><ETag>&quot;{etag}&quot;</ETag></Part>"


NO_UPLOAD = replace(xml("Error", "<Code>NoSuchUpload</Code>"), status=404)
MORE = "<IsTruncated>true</IsTruncated>"
LAST = "<IsTruncated>false</IsTruncated>"
MARKER = "<Deleted><Key>a&amp;b</Key><DeleteMarker>true</DeleteMarker></Deleted>"
STAGED = f"GET /videos/?list-type=2&max-keys={{}}&prefix={QUOTED}"
LISTING = STAGED.format(999)
VERSIONS = "GET /videos/?max-keys=1000&prefix={}&versions="
JUDGED = Arrived(size=7, etag=MD5, content_type="video/mp4")
COPY = {"x-amz-copy-source": "videos/staging/a%26%C3%BC", "x-amz-copy-source-if-match": f'"{MD5}"'}

OPERATIONS: dict[str, tuple[Call, list[Reply], Any, list[Sent]]] = {
    "head": (
        lambda bucket: bucket.head("staging/a&ü"),
        [Reply(headers={"content-length": "7", "etag": f'"{MD5}"', "content-type": "video/mp4"})],
        JUDGED,
        [("head_object", "HEAD /videos/staging/a%26%C3%BC", {"x-amz-checksum-mode": "ENABLED"}, "")],
    ),
    "a head without a type": (
        lambda bucket: bucket.head("key"),
        [Reply(headers={"content-length": "7", "etag": MD5})],
        Arrived(size=7, etag=MD5, content_type="binary/octet-stream"),
        [("head_object", "HEAD /videos/key", {"x-amz-checksum-mode": "ENABLED"}, "")],
    ),
    "promote": (
        lambda bucket: bucket.promote("staging/a&ü", "media/b", JUDGED),
        [xml("CopyObjectResult", f"<ETag>{MD5}</ETag>")],
        True,
        [
            (
                "copy_object",
                "PUT /videos/media/b",
                {
                    "content-type": "video/mp4",
                    "if-none-match": "*",
                    "x-amz-metadata-directive": "REPLACE",
                    "x-amz-tagging-directive": "REPLACE",
                }
                | COPY
                | FINAL,
                "",
            )
        ],
    ),
    "create": (
        lambda bucket: bucket.multipart.create("media/b", "video/mp4"),
        [xml("InitiateMultipartUploadResult", "<UploadId>an-id</UploadId>")],
        "an-id",
        [
            (
                "create_multipart_upload",
                "POST /videos/media/b?uploads=",
                {
                    "content-type": "video/mp4",
                    "x-amz-checksum-algorithm": "CRC64NVME",
                    "x-amz-checksum-type": "FULL_OBJECT",
                }
                | FINAL,
                "",
            )
        ],
    ),
    "copy a part": (
        lambda bucket: bucket.multipart.copy("media/b", "an-id", 7, "staging/a&ü", MD5),
        [xml("CopyPartResult", f"<ETag>&quot;{MD5}&quot;</ETag>")],
        Copied(MD5, comparable=True),
        [("upload_part_copy", "PUT /videos/media/b?partNumber=7&uploadId=an-id", COPY, "")],
    ),
    "copy a part to an ETag that is no MD5": (
        lambda bucket: bucket.multipart.copy("media/b", "an-id", 7, "staging/a&ü", MD5),
        [xml("CopyPartResult", "<ETag>none</ETag>")],
        Copied("none", comparable=False),
        [("upload_part_copy", "PUT /videos/media/b?partNumber=7&uploadId=an-id", COPY, "")],
    ),
    "copied": (
        lambda bucket: bucket.multipart.copied("media/b", "an-id"),
        [
            xml("ListPartsResult", part(1, MD5), MORE, "<NextPartNumberMarker>1</NextPartNumberMarker>"),
            xml("ListPartsResult", part(2, OTHER_MD5), LAST),
        ],
        {1: MD5, 2: OTHER_MD5},
        [
            ("list_parts", "GET /videos/media/b?max-parts=1000&uploadId=an-id", {}, ""),
            ("list_parts", "GET /videos/media/b?max-parts=1000&part-number-marker=1&uploadId=an-id", {}, ""),
        ],
    ),
    "complete": (
        lambda bucket: bucket.multipart.complete("media/b", "an-id", [MD5, "a&b"]),
        [xml("CompleteMultipartUploadResult")],
        None,
        [
            (
                "complete_multipart_upload",
                "POST /videos/media/b?uploadId=an-id",
                XML | {"if-none-match": "*"},
                f'<CompleteMultipartUpload xmlns="{NAMESPACE}">{part(1, MD5)}{part(2, "a&amp;b")}'
                "</CompleteMultipartUpload>",
            )
        ],
    ),
    "abort": (
        lambda bucket: bucket.multipart.abort("media/b", "an-id"),
        [Reply(204)],
        None,
        [("abort_multipart_upload", "DELETE /videos/media/b?uploadId=an-id", {}, "")],
    ),
    "abort what is gone": (
        lambda bucket: bucket.multipart.abort("media/b", "an-id"),
        [NO_UPLOAD],
        None,
        [("abort_multipart_upload", "DELETE /videos/media/b?uploadId=an-id", {}, "")],
    ),
    "copied of an upload that is gone": (
        lambda bucket: bucket.multipart.copied("media/b", "an-id"),
        [NO_UPLOAD],
        None,
        [("list_parts", "GET /videos/media/b?max-parts=1000&uploadId=an-id", {}, "")],
    ),
    "purge versions of what is gone": (
        lambda bucket: bucket.deletion.purge_versions("a"),
        [
            xml("ListVersionsResult", version("a", 1), LAST),
            xml("DeleteResult", "<Error><Key>a</Key><Code>NoSuchVersion</Code></Error>"),
        ],
        True,
        [
            ("list_object_versions", VERSIONS.format("a"), {}, ""),
            deleting(deletion("<Key>a</Key><VersionId>v1</VersionId>")),
        ],
    ),
    "abort all": (
        lambda bucket: bucket.multipart.abort_all("media/b"),
        [
            xml("ListMultipartUploadsResult", "<Upload><Key>media/b</Key><UploadId>an-id</UploadId></Upload>", MORE),
            Reply(204),
        ],
        False,
        [
            ("list_multipart_uploads", "GET /videos/?max-uploads=100&prefix=media%2Fb&uploads=", {}, ""),
            ("abort_multipart_upload", "DELETE /videos/media/b?uploadId=an-id", {}, ""),
        ],
    ),
    "abort all of none": (
        lambda bucket: bucket.multipart.abort_all("media/b"),
        [xml("ListMultipartUploadsResult", LAST)],
        True,
        [("list_multipart_uploads", "GET /videos/?max-uploads=100&prefix=media%2Fb&uploads=", {}, "")],
    ),
    "staged parts, in pages": (
        lambda bucket: bucket.multipart.staged(BELOW),
        [
            xml("ListBucketResult", listed(1, 5), MORE, "<NextContinuationToken>to/ken</NextContinuationToken>"),
            xml("ListBucketResult", f"<Contents><Key>{BELOW}x</Key></Contents>", listed(3, 2, OTHER_MD5), LAST),
        ],
        [StoredPart(1, 5, MD5), StoredPart(3, 2, OTHER_MD5)],
        [
            ("list_objects_v2", STAGED.format(1000), {}, ""),
            (
                "list_objects_v2",
                "GET /videos/?continuation-token=to%2Fken&" + STAGED.format(1000).partition("?")[2],
                {},
                "",
            ),
        ],
    ),
    "staged parts, as many as are wanted": (
        lambda bucket: bucket.multipart.staged(BELOW, after=f"{BELOW}00002", limit=2),
        [
            xml("ListBucketResult", listed(3, 5), MORE, "<NextContinuationToken>next</NextContinuationToken>"),
            xml("ListBucketResult", listed(4, 5), MORE, "<NextContinuationToken>none</NextContinuationToken>"),
        ],
        [StoredPart(3, 5, MD5), StoredPart(4, 5, MD5)],
        [
            ("list_objects_v2", STAGED.format(2) + f"&start-after={QUOTED}00002", {}, ""),
            (
                "list_objects_v2",
                f"GET /videos/?continuation-token=next&list-type=2&max-keys=1&prefix={QUOTED}"
                f"&start-after={QUOTED}00002",
                {},
                "",
            ),
        ],
    ),
    "purge without versions": (
        lambda bucket: bucket.deletion.purge("a&b", "c"),
        [xml("DeleteResult", "<Deleted><Key>a&amp;b</Key></Deleted>")],
        True,
        [deleting(deletion("<Key>a&amp;b</Key>", "<Key>c</Key>"))],
    ),
    "purge with versions": (
        lambda bucket: bucket.deletion.purge("a&b", "c"),
        [
            xml("DeleteResult", MARKER, "<Deleted><Key>c</Key></Deleted>"),
            xml("ListVersionsResult", version("a&amp;b", 2, "DeleteMarker"), version("a&amp;b", 1), LAST),
            xml("DeleteResult"),
        ],
        True,
        [
            deleting(deletion("<Key>a&amp;b</Key>", "<Key>c</Key>")),
            ("list_object_versions", VERSIONS.format("a%26b"), {}, ""),
            deleting(
                deletion(*(f"<Key>a&amp;b</Key><VersionId>v{number}</VersionId>" for number in (2, 1))),
            ),
        ],
    ),
    "purge more versions than one turn removes": (
        lambda bucket: bucket.deletion.purge_versions("a"),
        [xml("ListVersionsResult", version("a", 1), MORE), xml("DeleteResult")],
        False,
        [
            ("list_object_versions", VERSIONS.format("a"), {}, ""),
            deleting(deletion("<Key>a</Key><VersionId>v1</VersionId>")),
        ],
    ),
    "purge the versions of one key among many": (
        lambda bucket: bucket.deletion.purge_versions("a"),
        [xml("ListVersionsResult", version("a", 1), version("ab", 1), MORE), xml("DeleteResult")],
        True,
        [
            ("list_object_versions", VERSIONS.format("a"), {}, ""),
            deleting(deletion("<Key>a</Key><VersionId>v1</VersionId>")),
        ],
    ),
    "purge no versions": (
        lambda bucket: bucket.deletion.purge_versions("a"),
        [xml("ListVersionsResult", LAST)],
        True,
        [("list_object_versions", VERSIONS.format("a"), {}, "")],
    ),
    "purge below a prefix": (
        lambda bucket: bucket.deletion.purge_below(BELOW, f"{BELOW}00001"),
        [xml("ListBucketResult", listed(1, 5)), xml("DeleteResult")],
        True,
        [
            ("list_objects_v2", LISTING, {}, ""),
            deleting(deletion(f"<Key>{BELOW}00001</Key>")),
        ],
    ),
    "purge versions below a prefix": (
        lambda bucket: bucket.deletion.purge_below(BELOW, f"{BELOW}00001"),
        [
            xml("ListBucketResult"),
            xml("DeleteResult", MARKER),
            xml("ListVersionsResult", version(f"{BELOW}00001", 1), MORE),
            xml("DeleteResult"),
            xml("ListVersionsResult", LAST),
        ],
        True,
        [
            ("list_objects_v2", LISTING, {}, ""),
            deleting(deletion(f"<Key>{BELOW}00001</Key>")),
            ("list_object_versions", VERSIONS.format(QUOTED), {}, ""),
            deleting(
                deletion(f"<Key>{BELOW}00001</Key><VersionId>v1</VersionId>"),
            ),
            ("list_object_versions", VERSIONS.format(QUOTED), {}, ""),
        ],
    ),
    "check": (lambda bucket: bucket.check(), [Reply()], None, [("head_bucket", "HEAD /videos/", {}, "")]),
}


def headers_of(head: str) -> dict[str, str]:
    """Return the headers of one request, without those of every request; signed ones are in lower case."""
    lines = (line.partition(": ") for line in head.strip().splitlines()[1:])
    return {name: value for name, _, value in lines if name.lower() not in OF_EACH_REQUEST}


def counted() -> Counter[str]:
    """Return how often the metrics count each operation."""
    samples = [sample for metric in metrics.S3_SECONDS.collect() for sample in metric.samples]
    return Counter({each.labels["operation"]: int(each.value) for each in samples if each.name.endswith("_count")})


@pytest.mark.parametrize(("call", "replies", "answer", "sent"), OPERATIONS.values(), ids=OPERATIONS)
async def test_an_operation_sends_this_and_returns_that(
    call: Call, replies: list[Reply], answer: Any, sent: list[Sent]
) -> None:
    before = counted()
    async with scripted(*replies) as server:
        bucket = bucket_at(server.url, properties=PROPERTIES)
        assert await call(bucket) == answer
        await bucket.close()
    requests = zip(server.requests, map(headers_of, server.heads), map(bytes.decode, server.bodies), strict=True)
    assert [*map(list, requests)] == [request for _, *request in sent]
    assert counted() - before == Counter(operation for operation, *_ in sent)


WITH_RESULTS = {
    name: row for name, row in OPERATIONS.items() if all(reply.body and reply.status == 200 for reply in row[1])
}


@pytest.mark.parametrize(("call", "replies"), [row[:2] for row in WITH_RESULTS.values()], ids=WITH_RESULTS)
async def test_an_error_under_status_200_is_no_success(
    call: Call, replies: list[Reply], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "BACKOFF_SECONDS", 0)
    async with scripted(*replies[:-1], xml("Error", "<Code>InternalError</Code>")) as server:
        bucket = bucket_at(server.url)
        with pytest.raises(StorageUnavailable) as failure:
            await call(bucket)
        await bucket.close()
    assert failure.value.facts["cause"] == "InternalError"


FULL_PAGE = [f"<Contents><Key>{BELOW}{number:05}</Key></Contents>" for number in range(2, 1001)]


async def test_a_purge_below_a_prefix_goes_on_while_pages_are_full() -> None:
    async with scripted(
        xml("ListBucketResult", *FULL_PAGE), xml("DeleteResult"), xml("ListBucketResult"), xml("DeleteResult")
    ) as server:
        bucket = bucket_at(server.url)
        assert await bucket.deletion.purge_below(BELOW, f"{BELOW}00001")
        await bucket.close()
    assert len(FULL_PAGE) == 999
    assert [body.count(b"<Key>") for body in server.bodies] == [0, 1000, 0, 1]


async def test_a_turn_of_a_purge_ends_after_twenty_thousand_keys_or_versions() -> None:
    async with scripted(*[xml("ListBucketResult", *FULL_PAGE), xml("DeleteResult")] * 20) as server:
        bucket = bucket_at(server.url)
        assert not await bucket.deletion.purge_below(BELOW, f"{BELOW}00001")
        await bucket.close()
    assert len(server.requests) == 40
    truncated = [xml("ListVersionsResult", version(f"{BELOW}00001", 1), MORE), xml("DeleteResult")]
    async with scripted(xml("ListBucketResult"), xml("DeleteResult", MARKER), *truncated * 20) as server:
        bucket = bucket_at(server.url)
        assert not await bucket.deletion.purge_below(BELOW, f"{BELOW}00001")
        await bucket.close()
    assert len(server.requests) == 42


REFUSED = xml("DeleteResult", "<Error><Key>a</Key><Code>AccessDenied</Code></Error>")


@pytest.mark.parametrize(
    ("call", "replies"),
    [
        (lambda bucket: bucket.deletion.purge_below("a", "a"), [xml("ListBucketResult"), REFUSED]),
        (
            lambda bucket: bucket.deletion.purge_below("a", "a"),
            [
                xml("ListBucketResult"),
                xml("DeleteResult", MARKER),
                xml("ListVersionsResult", version("a", 1), LAST),
                REFUSED,
            ],
        ),
        (
            lambda bucket: bucket.deletion.purge_versions("a"),
            [xml("ListVersionsResult", version("a", 1), LAST), REFUSED],
        ),
    ],
)
async def test_a_purge_that_s3_refuses_for_one_key_fails(call: Call, replies: list[Reply]) -> None:
    async with scripted(*replies) as server:
        bucket = bucket_at(server.url)
        with pytest.raises(StorageRefused, match="AccessDenied"):
            await call(bucket)
        await bucket.close()
    assert len(server.requests) == len(replies)


async def test_each_key_of_a_deletion_has_its_own_outcome() -> None:
    failed = "".join(
        f"<Error><Key>{key}</Key>{code}</Error>"
        for key, code in (
            ("refused", "<Code>AccessDenied</Code>"),
            ("busy", "<Code>SlowDown</Code>"),
            ("odd", ""),
            ("gone", "<Code>NoSuchKey</Code>"),
        )
    )
    removed = "<Deleted><Key>removed</Key><VersionId>v1</VersionId><DeleteMarker>true</DeleteMarker></Deleted>"
    async with scripted(xml("DeleteResult", MARKER, removed, failed)) as server:
        bucket = bucket_at(server.url)
        deleted = await bucket.deletion.delete(["a&b", "removed", "refused", "busy", "odd", "gone"])
        await bucket.close()
    assert deleted.versioned == {"a&b"}
    assert {key: (type(error), *error.facts.values()) for key, error in deleted.failures.items()} == {  # type: ignore[attr-defined]
        "refused": (StorageRefused, "delete_objects", "AccessDenied"),
        "busy": (StorageUnavailable, "delete_objects", "SlowDown"),
        "odd": (StorageRefused, "delete_objects", "Unknown"),
    }


async def test_a_request_is_signed_as_it_is_sent() -> None:
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    with freeze_time(now, real_asyncio=True):
        async with scripted(xml("CompleteMultipartUploadResult")) as server:
            bucket = bucket_at(server.url)
            await bucket.multipart.complete("media/b", "an-id", [MD5])
            await bucket.close()
    signed = signed_headers(
        KEYS,
        Address.of(f"{server.url}/videos/"),
        "POST",
        "media/b",
        now=now,
        region="eu-central-1",
        query={"uploadId": "an-id"},
        headers=XML | {"if-none-match": "*"},
        body=server.bodies[0],
    )
    lines = (line.partition(": ") for line in server.heads[0].strip().splitlines()[1:])
    sent = {name.lower(): value for name, _, value in lines}
    assert signed.items() <= sent.items()
