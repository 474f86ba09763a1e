"""Missing credentials: nothing is signed, and no object counts as absent."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from broker.aws.bucket import Bucket, BucketConfig
from broker.aws.queue import Queue, QueueConfig
from broker.dev.s3 import EmbeddedS3
from broker.errors import CredentialsExpired, QueueUnavailable, StorageUnavailable

ENDED = {"Version": 1, "AccessKeyId": "AK", "SecretAccessKey": "sk", "Expiration": "2020-01-01T00:00:00Z"}


@pytest.fixture(params=["ended keys", "refused", "not found"])
async def chain(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Give AWS's ordinary credential chain a source without valid keys."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    if request.param == "ended keys":
        (tmp_path / "config").write_text(f"[default]\ncredential_process = echo '{json.dumps(ENDED)}'\n")
        yield
        return
    status, body = {
        "refused": (b"403 Forbidden", b""),
        "not found": (b"404 Not Found", b"<ErrorResponse><Error><Code>NotFound</Code></Error></ErrorResponse>"),
    }[request.param]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (status, len(body), body))
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as sts:
        (tmp_path / "token").write_text("a token")
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
        monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/broker")
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://{}:{}".format(*sts.sockets[0].getsockname()))
        yield


@pytest.fixture
async def open_bucket(embedded_s3: EmbeddedS3, bucket: str, chain: None) -> AsyncIterator[Bucket]:
    opened = await asyncio.to_thread(
        Bucket,
        BucketConfig(name=bucket, region=embedded_s3.region, endpoint_url=embedded_s3.endpoint_url, path_style=True),
    )
    yield opened
    await opened.close()


async def test_nothing_is_signed_without_credentials(open_bucket: Bucket) -> None:
    with pytest.raises(CredentialsExpired):
        await open_bucket.credentials(datetime.now(UTC))


async def test_no_object_counts_as_absent_without_credentials(open_bucket: Bucket) -> None:
    for asked in (
        open_bucket.head("key"),
        open_bucket.deletion.purge("key"),
        open_bucket.signed_read("key", "abc"),
    ):
        with pytest.raises(StorageUnavailable):
            await asked


async def test_the_queue_is_unavailable_without_credentials(embedded_s3: EmbeddedS3, chain: None) -> None:
    config = QueueConfig(
        url=f"{embedded_s3.endpoint_url}/1/q", region="eu-central-1", endpoint_url=embedded_s3.endpoint_url
    )
    queue = await asyncio.to_thread(Queue, config)
    with pytest.raises(QueueUnavailable):
        await queue.receive(1)
    await asyncio.to_thread(queue.close)
