"""One SQS queue: receive, delete, extend. Blocking calls of botocore run on a pool of threads.

Source: Amazon SQS Developer Guide, "Amazon SQS visibility timeout" and "Amazon SQS short and long polling".
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from threading import Lock
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from broker.aws.credentials import NO_ANSWER, client_keys
from broker.domain.s3.sigv4 import Credentials
from broker.errors import QueueUnavailable

T = TypeVar("T")

MAX_BATCH = 10
"""The maximum number of messages in one receive, and in one deletion."""
EXPIRED_CODES = frozenset({"ExpiredToken", "ExpiredTokenException"})
"""Errors that new credentials end. Source: Amazon SQS API Reference, "Common Errors"."""
GATHER_SECONDS = 0.1
"""How long a deletion waits for others to share its request, because SQS charges by the request."""


@dataclass(frozen=True, slots=True)
class Message:
    """One received message; its `receipt` is valid until the message is received again."""

    id: str
    body: str
    receipt: str
    sent_at: datetime
    receives: int
    """The number of receives, this one included; SQS counts approximately."""


@dataclass(frozen=True, slots=True)
class QueueConfig:
    """The address of the queue, and the options of its client."""

    url: str
    region: str
    endpoint_url: str | None = None
    credentials: Credentials | None = None
    timeout_seconds: float = 10
    visibility_seconds: int = 60
    """How long a received message is hidden from other workers, unless that is extended."""
    wait_seconds: int = 5
    """How long one receive waits for a message. SQS allows 20; a stop has to wait for the current receive."""


class Queue:
    """A client of one queue. Create it off the event loop, because botocore loads its service model then."""

    def __init__(self, config: QueueConfig, *, threads: int = 16) -> None:
        """Make at most `threads` calls at a time; eight receives of a long queue leave as many for the other calls."""
        self.config = config
        self._open = partial(_client, config, threads)
        self._client: Any = self._open()
        self._renewing = Lock()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="sqs")
        self._done: list[tuple[Message, asyncio.Future[None]]] = []

    async def receive(self, limit: int) -> list[Message]:
        """Wait for messages, and return up to `limit` of them, at most 10. Raises QueueUnavailable."""
        response = await self._call(
            "receive_message",
            MaxNumberOfMessages=min(limit, MAX_BATCH),
            WaitTimeSeconds=self.config.wait_seconds,
            VisibilityTimeout=self.config.visibility_seconds,
            AttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
        )
        return [_message(entry) for entry in response.get("Messages", ())]

    async def delete(self, message: Message) -> None:
        """Delete a message, in one request with others that end at about the same time. Raises QueueUnavailable."""
        deleted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._done.append((message, deleted))
        if len(self._done) < MAX_BATCH:
            await asyncio.wait({deleted}, timeout=GATHER_SECONDS)
        if any(waiting is deleted for _, waiting in self._done):
            batch, self._done = self._done[:MAX_BATCH], self._done[MAX_BATCH:]
            await self._delete_all(batch)
        await deleted

    async def hide(self, message: Message, seconds: int) -> None:
        """Hide a message from other workers for `seconds` from now; 0 returns it. Raises QueueUnavailable."""
        await self._call("change_message_visibility", ReceiptHandle=message.receipt, VisibilityTimeout=seconds)

    def close(self) -> None:
        """Wait for the running calls, then release the threads and connections."""
        self._threads.shutdown(wait=True)
        self._client.close()

    async def _delete_all(self, batch: list[tuple[Message, "asyncio.Future[None]"]]) -> None:
        """Delete a batch, and resolve each waiter with its own outcome."""
        entries = [{"Id": str(number), "ReceiptHandle": message.receipt} for number, (message, _) in enumerate(batch)]
        try:
            response = await self._call("delete_message_batch", Entries=entries)
            failures = {entry["Id"]: QueueUnavailable(cause=entry["Code"]) for entry in response.get("Failed", ())}
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
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._call_now, operation, parameters)

    def _call_now(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        client = self._client
        call: Callable[..., dict[str, Any]] = getattr(client, operation)
        try:
            return call(QueueUrl=self.config.url, **parameters)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "Unknown")
            if code in EXPIRED_CODES:
                self._renew(client)
            raise QueueUnavailable(cause=code) from error
        except NO_ANSWER as error:
            raise QueueUnavailable(cause=type(error).__name__) from error

    def _renew(self, client: Any) -> None:
        """Replace a client whose keys have expired, unless another call has: the next call reads the chain anew."""
        with self._renewing:
            if self.config.credentials is None and self._client is client:
                self._client = self._open()


def _client(config: QueueConfig, threads: int) -> Any:
    return boto3.Session().client(
        "sqs",
        region_name=config.region,
        endpoint_url=config.endpoint_url,
        **client_keys(config.credentials),
        config=Config(
            connect_timeout=min(config.timeout_seconds, 5),
            read_timeout=config.timeout_seconds + config.wait_seconds,
            retries={"mode": "standard", "total_max_attempts": 3},
            max_pool_connections=threads,
        ),
    )


def _message(entry: dict[str, Any]) -> Message:
    attributes = entry["Attributes"]
    return Message(
        id=entry["MessageId"],
        body=entry["Body"],
        receipt=entry["ReceiptHandle"],
        sent_at=datetime.fromtimestamp(int(attributes["SentTimestamp"]) / 1000, UTC),
        receives=int(attributes["ApproximateReceiveCount"]),
    )
