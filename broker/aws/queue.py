"""One SQS queue: receive, delete, extend. What botocore blocks on runs on a pool of threads.

Source: Amazon SQS Developer Guide, "Amazon SQS visibility timeout" and "Amazon SQS short and long polling".
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from broker.aws.credentials import NO_ANSWER
from broker.domain.sigv4 import Credentials
from broker.errors import QueueUnavailable

T = TypeVar("T")

MAX_BATCH = 10
"""How many messages SQS hands out, and lets go, at a time."""
GATHER_SECONDS = 0.1
"""How long a deletion waits for others to go with it, since SQS is paid by the request."""


@dataclass(frozen=True, slots=True)
class Message:
    """Hold one message as it was received; `receipt` is good until it is received again."""

    id: str
    body: str
    receipt: str
    sent_at: datetime
    receives: int
    """How often it was received, this time included; SQS counts roughly."""


@dataclass(frozen=True, slots=True)
class QueueConfig:
    """Say where the queue is and how to talk to it."""

    url: str
    region: str
    endpoint_url: str | None = None
    credentials: Credentials | None = None
    timeout_seconds: float = 10
    visibility_seconds: int = 60
    """For how long a received message is hidden from others, unless that is extended."""
    wait_seconds: int = 5
    """How long one receive waits for a message. SQS allows 20; a stop waits for the receive that is under way."""


class Queue:
    """Speak with one queue. Create it off the event loop: botocore loads its service model then."""

    def __init__(self, config: QueueConfig, *, threads: int = 8) -> None:
        self.config = config
        keys = config.credentials
        self._client: Any = boto3.Session().client(
            "sqs",
            region_name=config.region,
            endpoint_url=config.endpoint_url,
            aws_access_key_id=keys.access_key if keys else None,
            aws_secret_access_key=keys.secret_key if keys else None,
            aws_session_token=keys.session_token if keys else None,
            config=Config(
                connect_timeout=min(config.timeout_seconds, 5),
                read_timeout=config.timeout_seconds + config.wait_seconds,
                retries={"mode": "standard", "total_max_attempts": 3},
                max_pool_connections=threads,
            ),
        )
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="sqs")
        self._done: list[tuple[Message, asyncio.Future[None]]] = []

    async def receive(self, limit: int) -> list[Message]:
        """Wait for messages, and return up to `limit` of them, 10 at most, or none. Raises QueueUnavailable."""
        answer = await self._call(
            "receive_message",
            MaxNumberOfMessages=min(limit, MAX_BATCH),
            WaitTimeSeconds=self.config.wait_seconds,
            VisibilityTimeout=self.config.visibility_seconds,
            AttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
        )
        return [_message(one) for one in answer.get("Messages", ())]

    async def delete(self, message: Message) -> None:
        """Remove a message for good, together with others that end at about the same time. Raises QueueUnavailable."""
        deleted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._done.append((message, deleted))
        if len(self._done) < MAX_BATCH:
            await asyncio.wait({deleted}, timeout=GATHER_SECONDS)
        if any(waiting is deleted for _, waiting in self._done):
            batch, self._done = self._done[:MAX_BATCH], self._done[MAX_BATCH:]
            await self._delete_all(batch)
        await deleted

    async def hide(self, message: Message, seconds: int) -> None:
        """Keep a message from others for `seconds` from now on; 0 hands it back. Raises QueueUnavailable."""
        await self._call("change_message_visibility", ReceiptHandle=message.receipt, VisibilityTimeout=seconds)

    def close(self) -> None:
        """Wait for calls under way, then let go of threads and connections."""
        self._threads.shutdown(wait=True)
        self._client.close()

    async def _delete_all(self, batch: list[tuple[Message, "asyncio.Future[None]"]]) -> None:
        """Delete a batch, and tell each who waits for it how its own ended."""
        entries = [{"Id": str(number), "ReceiptHandle": message.receipt} for number, (message, _) in enumerate(batch)]
        try:
            answer = await self._call("delete_message_batch", Entries=entries)
            failures = {one["Id"]: QueueUnavailable(cause=one["Code"]) for one in answer.get("Failed", ())}
        except QueueUnavailable as error:
            failures = {entry["Id"]: error for entry in entries}
        except BaseException:
            for _, deleted in batch:
                deleted.cancel()
            raise
        for entry, (_, deleted) in zip(entries, batch, strict=True):
            if (failure := failures.get(entry["Id"])) is not None:
                deleted.set_exception(failure)
            else:
                deleted.set_result(None)

    async def _call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        call: Callable[..., dict[str, Any]] = getattr(self._client, operation)
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._ask, call, parameters)

    def _ask(self, call: Callable[..., dict[str, Any]], parameters: dict[str, Any]) -> dict[str, Any]:
        try:
            return call(QueueUrl=self.config.url, **parameters)
        except ClientError as error:
            raise QueueUnavailable(cause=error.response.get("Error", {}).get("Code", "Unknown")) from error
        except NO_ANSWER as error:
            raise QueueUnavailable(cause=type(error).__name__) from error


def _message(one: dict[str, Any]) -> Message:
    told = one["Attributes"]
    return Message(
        id=one["MessageId"],
        body=one["Body"],
        receipt=one["ReceiptHandle"],
        sent_at=datetime.fromtimestamp(int(told["SentTimestamp"]) / 1000, UTC),
        receives=int(told["ApproximateReceiveCount"]),
    )
