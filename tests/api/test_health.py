"""The health routes with a database that is not migrated, and with a silent S3."""

import asyncio
import socket
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from broker.aws.bucket import Bucket, BucketConfig
from broker.aws.client import MAX_ATTEMPTS
from broker.dev.s3 import EmbeddedS3
from broker.domain.s3.sigv4 import Credentials
from broker.errors import StorageRefused, StorageUnavailable
from broker.settings import Settings
from broker.store import migrate
from tests.support.serving import served


async def test_a_broker_is_ready_once_its_database_is_migrated(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/later.db"
    async with served(tmp_path, database_url=url) as client:
        refused = await client.get("/readyz")
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:s3-media:problem:database-away")
        assert "media" not in refused.json()["detail"]
        migrate(url)
        assert (await client.get("/readyz")).status_code == 200


async def test_a_silent_s3_is_unhealthy_after_one_wait(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with served(tmp_path, s3_endpoint_url=address, s3_timeout_seconds=1) as client:
            assert (await client.get("/health/s3")).status_code == 503
        silent.setblocking(False)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()


async def test_a_failure_of_s3_is_logged_by_its_name_only(embedded_s3: EmbeddedS3) -> None:
    def bucket(endpoint_url: str, key: str) -> Bucket:
        keys = Credentials(embedded_s3.access_key, key)
        return Bucket(
            BucketConfig(
                name="videos",
                region=embedded_s3.region,
                endpoint_url=endpoint_url,
                path_style=True,
                credentials=keys,
                timeout_seconds=1,
            )
        )

    nowhere = await asyncio.to_thread(bucket, "http://127.0.0.1:9", "secret")
    refusing = await asyncio.to_thread(bucket, embedded_s3.endpoint_url, "another's secret")
    with capture_logs() as logs:
        with pytest.raises(StorageUnavailable):
            await nowhere.check()
        with pytest.raises(StorageRefused):
            await refusing.check()
    for one in (nowhere, refusing):
        await one.close()
    failed = {"event": "s3 failed", "operation": "head_bucket", "log_level": "warning"}
    request_id = logs[1].pop("s3_request_id")
    assert request_id
    assert logs == [failed | {"cause": "ClientConnectorError"}, failed | {"cause": "403"}]


def test_the_setting_says_how_often_a_call_is_tried() -> None:
    assert MAX_ATTEMPTS == 3
    assert "up to three times" in (Settings.model_fields["s3_timeout_seconds"].description or "")
