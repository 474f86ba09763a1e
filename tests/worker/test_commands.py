"""`broker worker` and `broker webhooks` as processes, configured by their environment."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from prometheus_client.parser import text_string_to_metric_families

from broker.dev.s3 import EmbeddedS3
from tests.support.processes import CLIP, done, running
from tests.support.receiver import Receiver, receiving
from tests.worker.conftest import Sqs, until
from tests.worker.sending import SECRET

KEY = "a-key-of-the-tests-and-of-another-else"
SERVES = r"Uvicorn running on (http://[\d.:]+)"


@pytest.fixture
def variables(embedded_s3: EmbeddedS3, bucket: str, sqs: Sqs, tmp_path: Path) -> dict[str, str]:
    """Return what deploys a broker on the test's bucket and queue."""
    settings = {
        "SECRET_KEY": KEY,
        "CLOUD_STORAGE_PROVIDER": "s3",
        "AWS_S3_BUCKET_NAME": bucket,
        "AWS_S3_REGION": embedded_s3.region,
        "AWS_ACCESS_KEY_ID": embedded_s3.access_key,
        "AWS_SECRET_ACCESS_KEY": embedded_s3.secret_key,
        "BROKER_S3_ENDPOINT_URL": embedded_s3.endpoint_url,
        "BROKER_S3_PATH_STYLE": "true",
        "BROKER_SQS_QUEUE_URL": sqs.url,
        "BROKER_SQS_ENDPOINT_URL": embedded_s3.endpoint_url,
        "BROKER_WEBHOOK_SECRETS": SECRET,
        "BROKER_WEBHOOK_LOOPBACK_HTTP": "true",
    }
    assert done("migrate", cwd=tmp_path, **settings).returncode == 0
    return settings


def value(metrics: str, name: str) -> float:
    (sample,) = [
        one for family in text_string_to_metric_families(metrics) for one in family.samples if one.name == name
    ]
    return sample.value


async def asked(client: httpx.AsyncClient, method: str, path: str, **parts: Any) -> httpx.Response:
    token = jwt.encode({"sub": "anna", "exp": 4e9, "scope": "media:upload media:read media:delete"}, KEY)
    return await client.request(method, path, headers={"Authorization": f"Bearer {token}"}, **parts)


async def test_an_unannounced_upload_becomes_ready_and_is_notified(variables: dict[str, str], tmp_path: Path) -> None:
    async with receiving(200) as receiver:
        told = variables | {"BROKER_WEBHOOK_URLS": receiver.url}
        with (
            running("serve", "--port", "0", cwd=tmp_path, **told) as server,
            running("worker", cwd=tmp_path, **told) as worker,
        ):
            url = server.wait_for(SERVES)[1]
            worker.wait_for("working")
            async with httpx.AsyncClient(base_url=f"{url}/api/v1/s3-media") as client:
                issued = (await asked(client, "POST", "/upload", json={"content_type": "video/mp4"})).json()
                upload = issued["upload"]
                sent = await client.post(upload["url"], data=upload["fields"], files={"file": CLIP.read_bytes()})
                assert sent.status_code == 201
                await until(lambda: receiver.ids)
                ready = await asked(client, "GET", f"/{issued['media_id']}")
                assert ready.status_code == 200
                metrics = (await client.get(f"{url}/metrics")).text
            assert worker.end(signal.SIGTERM) == 0
            assert "Traceback" not in worker.said
    assert receiver.documents[0]["data"]["media_id"] == issued["media_id"]
    assert value(metrics, "broker_webhook_lag_seconds") < 10


async def told_in_vain(receiver: Receiver, variables: dict[str, str], cwd: Path) -> dict[str, str]:
    """Have a media expire whose webhook the receiver refuses with 410."""
    told = variables | {
        "BROKER_WEBHOOK_URLS": receiver.url,
        "BROKER_POLICY_SECONDS": "1",
        "BROKER_GRACE_SECONDS": "0",
        "BROKER_SWEEP_SECONDS": "0.2",
    }
    with (
        running("serve", "--port", "0", cwd=cwd, **told) as server,
        running("worker", cwd=cwd, **told) as worker,
    ):
        url = server.wait_for(SERVES)[1]
        worker.wait_for("working")
        async with httpx.AsyncClient(base_url=f"{url}/api/v1/s3-media") as client:
            issued = await asked(client, "POST", "/upload", json={"content_type": "video/mp4"})
            assert issued.status_code == 201
            await until(lambda: receiver.ids)
        worker.wait_for("webhook is not delivered")
    return told


async def test_the_commands_list_and_retry_undelivered_webhooks(variables: dict[str, str], tmp_path: Path) -> None:
    async with receiving(410) as receiver:
        told = await told_in_vain(receiver, variables, tmp_path)

        async def said(*arguments: str) -> tuple[int, str]:
            end = await asyncio.to_thread(done, "webhooks", *arguments, cwd=tmp_path, **told)
            return end.returncode, end.stdout + end.stderr

        status, listed = await said("list")
        assert status == 0
        assert f"{receiver.url}  disabled since" in listed
        assert receiver.ids[0] in listed
        status, tried = await said("test")
        assert (status, tried) == (1, f"{receiver.url}  it answered 410\n")
        receiver.answers = [receiver.status(200)]
        assert await said("test", receiver.url) == (0, f"{receiver.url}  delivered\n")
        assert receiver.documents[-1]["data"]["test"] is True
        assert await said("retry", "https://elsewhere.example/") == (
            2,
            "'https://elsewhere.example/' is not one of BROKER_WEBHOOK_URLS\n",
        )
        assert await said("retry") == (0, "The worker will send 1 webhook now.\n")

        async def is_delivered() -> bool:
            return await said("list") == (0, f"{receiver.url}  enabled\nEverything has been delivered.\n")

        with running("worker", cwd=tmp_path, **told):
            await until(is_delivered, 60)  # the worker records a delivery after the receiver has answered
        assert receiver.ids.count(receiver.ids[0]) == 2


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"BROKER_WEBHOOK_URLS": "http://hooks.example/"}, "BROKER_WEBHOOK_URLS: should be https addresses"),
        ({"BROKER_WEBHOOK_URLS": "https://a:b@hooks.example/"}, "BROKER_WEBHOOK_URLS: should be https addresses"),
        ({"BROKER_WEBHOOK_URLS": "https://hooks.example/#a"}, "BROKER_WEBHOOK_URLS: should be https addresses"),
        (
            {"BROKER_WEBHOOK_URLS": "http://127.0.0.1:1/", "BROKER_WEBHOOK_LOOPBACK_HTTP": "false"},
            "BROKER_WEBHOOK_URLS: should be https addresses",
        ),
        (
            {"BROKER_WEBHOOK_URLS": "https://hooks.example/", "BROKER_WEBHOOK_SECRETS": ""},
            "BROKER_WEBHOOK_SECRETS: should be set",
        ),
        ({"BROKER_WEBHOOK_SECRETS": "whsec_c2hvcnQ="}, "BROKER_WEBHOOK_SECRETS: should be whsec_ and 24 to 64"),
        ({"BROKER_WEBHOOK_SECRETS": ",".join([SECRET] * 3)}, "BROKER_WEBHOOK_SECRETS: should be one secret, or two"),
        ({"BROKER_SQS_QUEUE_URL": "uploads"}, "BROKER_SQS_QUEUE_URL: should be an http or https address"),
    ],
)
def test_settings_that_cannot_work_are_named(
    wrong: dict[str, str], reason: str, variables: dict[str, str], tmp_path: Path
) -> None:
    ended = done("worker", cwd=tmp_path, **(variables | wrong))
    assert ended.returncode == 2
    assert ended.stderr.startswith(reason)
