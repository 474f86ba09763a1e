"""A broker over a real SQLite file, the embedded S3, and a queue that receives its events."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any

import boto3
import pytest

from broker.aws.queue import Queue, QueueConfig
from broker.dev.s3 import EmbeddedS3
from broker.domain.s3.sigv4 import Credentials
from tests.support.world import World

MAX_RECEIVES = 3
VISIBILITY_SECONDS = 1


class Sqs:
    """One queue with a dead-letter queue, as its operator sees both."""

    def __init__(self, s3: EmbeddedS3, *, max_receives: int = MAX_RECEIVES) -> None:
        self._s3 = s3
        self._client: Any = boto3.client(
            "sqs",
            endpoint_url=s3.endpoint_url,
            aws_access_key_id=s3.access_key,
            aws_secret_access_key=s3.secret_key,
            region_name=s3.region,
        )
        self._dead_url = self._client.create_queue(QueueName=f"dead-{secrets.token_hex(6)}")["QueueUrl"]
        redrive = {"deadLetterTargetArn": self._arn(self._dead_url), "maxReceiveCount": max_receives}
        self.url = self._client.create_queue(
            QueueName=f"uploads-{secrets.token_hex(6)}", Attributes={"RedrivePolicy": json.dumps(redrive)}
        )["QueueUrl"]
        self.config = QueueConfig(
            url=self.url,
            region=s3.region,
            endpoint_url=s3.endpoint_url,
            credentials=Credentials(s3.access_key, s3.secret_key),
            visibility_seconds=VISIBILITY_SECONDS,
            wait_seconds=1,
        )

    def send(self, *bodies: str) -> None:
        for start in range(0, len(bodies), 10):
            entries = [
                {"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies[start : start + 10])
            ]
            self._client.send_message_batch(QueueUrl=self.url, Entries=entries)

    def take_all(self) -> list[str]:
        """Take every message off the queue and return their bodies."""
        bodies = []
        while messages := self._client.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                bodies.append(message["Body"])
                self._client.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        return bodies

    @property
    def left(self) -> int:
        """Return how many messages are in the queue, hidden ones included."""
        return self._count(self.url)

    @property
    def dead(self) -> int:
        """Return how many messages are in the dead-letter queue."""
        return self._count(self._dead_url)

    def hear(self, bucket: str) -> None:
        """Have the bucket tell this queue of what is created in the staging prefix."""
        self._s3_client().put_bucket_notification_configuration(
            Bucket=bucket,
            NotificationConfiguration={
                "QueueConfigurations": [
                    {
                        "QueueArn": self._arn(self.url),
                        "Events": ["s3:ObjectCreated:*"],
                        "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "staging/"}]}},
                    }
                ]
            },
        )

    def _s3_client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self._s3.endpoint_url,
            aws_access_key_id=self._s3.access_key,
            aws_secret_access_key=self._s3.secret_key,
            region_name=self._s3.region,
        )

    def _arn(self, url: str) -> str:
        asked = self._client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        arn: str = asked["Attributes"]["QueueArn"]
        return arn

    def _count(self, url: str) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        asked = self._client.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return sum(int(asked[name]) for name in names)


@pytest.fixture
def sqs(embedded_s3: EmbeddedS3, bucket: str) -> Sqs:
    """Return a queue that hears of what arrives in the test's bucket."""
    queue = Sqs(embedded_s3)
    queue.hear(bucket)
    return queue


@pytest.fixture
async def queue(sqs: Sqs) -> AsyncIterator[Queue]:
    queue = Queue(sqs.config)
    yield queue
    queue.close()


def told(world: World, *keys: str, bucket: str | None = None) -> str:
    """Return what S3 says when objects were created under these keys."""
    name = bucket or world.bucket.config.name
    records = [
        {"eventName": "ObjectCreated:Post", "s3": {"bucket": {"name": name}, "object": {"key": key}}} for key in keys
    ]
    return json.dumps({"Records": records})


async def until(holds: Callable[[], Any], seconds: float = 60) -> None:
    """Wait until `holds` returns, or awaits, something true."""
    async with asyncio.timeout(seconds):
        while True:
            found = await asyncio.to_thread(holds) if not asyncio.iscoroutinefunction(holds) else await holds()
            if found:
                return
            await asyncio.sleep(0.05)
