"""The calls to SQS: their parameters, their batches, and what each failure means to its callers."""

import asyncio
import threading
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ReadTimeoutError

from broker.aws import queue
from broker.aws.queue import Message, Queue, QueueConfig
from broker.domain.s3.sigv4 import Credentials
from broker.errors import QueueUnavailable

pytestmark = pytest.mark.timeout(20)

URL = "https://sqs.eu-central-1.amazonaws.com/1/uploads"
CONFIG = QueueConfig(
    url=URL, region="eu-central-1", timeout_seconds=7, visibility_seconds=30, wait_seconds=3, endpoint_url="http://sqs"
)
ENTRY = {
    "MessageId": "an-id",
    "Body": "a body",
    "ReceiptHandle": "a receipt",
    "Attributes": {"SentTimestamp": "1767323045678", "ApproximateReceiveCount": "2"},
}


def message(number: int = 0) -> Message:
    return Message(f"message {number}", "", f"receipt {number}", datetime.now(UTC), 1)


class Sqs:
    """A client of botocore that notes each call and answers what the test says; an error is raised."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[str, Any] = {}
        self.options: dict[str, Any] = {}
        self.closed = False
        self.let_go = threading.Event()
        self.let_go.set()

    def client(self, service: str, **options: Any) -> "Sqs":
        self.options = {"service": service, **options}
        return self

    def __getattr__(self, operation: str) -> Any:
        def call(**parameters: Any) -> Any:
            self.calls.append((operation, parameters))
            self.let_go.wait(10)
            answer = self.answers.get(operation, {})
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def sqs(monkeypatch: pytest.MonkeyPatch) -> Sqs:
    sqs = Sqs()
    monkeypatch.setattr(boto3, "Session", lambda: sqs)
    return sqs


@pytest.mark.parametrize(("timeout_seconds", "to_connect"), [(7, 5), (4, 4)])
def test_a_client_waits_as_long_as_the_settings_say(sqs: Sqs, timeout_seconds: int, to_connect: int) -> None:
    keys = Credentials("AKIAIOSFODNN7EXAMPLE", "a-secret-key", None)
    config = QueueConfig(url=URL, region="eu-central-1", credentials=keys, timeout_seconds=timeout_seconds)
    Queue(config, threads=9).close()
    assert sqs.closed
    options: Config = sqs.options.pop("config")
    assert sqs.options == {
        "service": "sqs",
        "region_name": "eu-central-1",
        "endpoint_url": None,
        "aws_access_key_id": "AKIAIOSFODNN7EXAMPLE",
        "aws_secret_access_key": "a-secret-key",
        "aws_session_token": None,
    }
    told: Any = options
    assert (told.connect_timeout, told.read_timeout, told.max_pool_connections) == (to_connect, timeout_seconds + 5, 9)
    assert told.retries == {"mode": "standard", "total_max_attempts": 3}


@pytest.mark.parametrize(("limit", "asked"), [(3, 3), (10, 10), (11, 10)])
async def test_a_receive_hides_what_it_brings(sqs: Sqs, limit: int, asked: int) -> None:
    sqs.answers["receive_message"] = {"Messages": [ENTRY]}
    (received,) = await Queue(CONFIG).receive(limit)
    assert received == Message(
        "an-id", "a body", "a receipt", datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC), receives=2
    )
    assert sqs.calls == [
        (
            "receive_message",
            {
                "QueueUrl": URL,
                "MaxNumberOfMessages": asked,
                "WaitTimeSeconds": 3,
                "VisibilityTimeout": 30,
                "AttributeNames": ["ApproximateReceiveCount", "SentTimestamp"],
            },
        )
    ]
    assert sqs.options["endpoint_url"] == "http://sqs"


async def test_an_empty_receive_brings_nothing(sqs: Sqs) -> None:
    assert await Queue(CONFIG).receive(1) == []


async def test_a_message_is_hidden_by_its_receipt(sqs: Sqs) -> None:
    await Queue(CONFIG).hide(message(7), 90)
    asked = {"QueueUrl": URL, "ReceiptHandle": "receipt 7", "VisibilityTimeout": 90}
    assert sqs.calls == [("change_message_visibility", asked)]


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (ClientError({"Error": {"Code": "AccessDenied"}}, "ReceiveMessage"), "AccessDenied"),
        (ClientError({"Error": {}}, "ReceiveMessage"), "Unknown"),
        (ClientError({}, "ReceiveMessage"), "Unknown"),
        (ReadTimeoutError(endpoint_url=URL), "ReadTimeoutError"),
        (RuntimeError("the keys stay expired"), "RuntimeError"),
    ],
)
async def test_a_failed_call_names_its_cause(sqs: Sqs, error: Exception, cause: str) -> None:
    sqs.answers["receive_message"] = error
    with pytest.raises(QueueUnavailable) as failure:
        await Queue(CONFIG).receive(1)
    assert failure.value.facts == {"cause": cause}


def batches(sqs: Sqs) -> list[list[tuple[str, str]]]:
    """Return the ids and receipts of each batch of deletions."""
    return [
        [(entry["Id"], entry["ReceiptHandle"]) for entry in parameters["Entries"]]
        for operation, parameters in sqs.calls
        if operation == "delete_message_batch" and parameters["QueueUrl"] == URL
    ]


async def test_deletions_share_requests_of_ten(sqs: Sqs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "GATHER_SECONDS", 0.01)
    own = Queue(CONFIG)
    await asyncio.gather(*(own.delete(message(number)) for number in range(25)))
    sent = [[(str(place), f"receipt {first + place}") for place in range(size)] for first, size in ((0, 10), (10, 10))]
    assert batches(sqs)[:2] == sent
    assert sorted(receipt for batch in batches(sqs)[2:] for _, receipt in batch) == [
        f"receipt {number}" for number in range(20, 25)
    ]
    assert len(batches(sqs)) == 3


async def test_a_deletion_waits_a_moment_for_others(sqs: Sqs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "GATHER_SECONDS", 3600)
    own = Queue(CONFIG)
    early = [asyncio.create_task(own.delete(message(number))) for number in range(9)]
    await asyncio.sleep(0.02)
    assert batches(sqs) == []
    await own.delete(message(9))
    await asyncio.gather(*early)
    assert [len(batch) for batch in batches(sqs)] == [10]


async def test_a_deletion_that_sqs_refuses_fails_alone(sqs: Sqs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "GATHER_SECONDS", 0.01)
    sqs.answers["delete_message_batch"] = {"Failed": [{"Id": "1", "Code": "ReceiptHandleIsInvalid"}]}
    own = Queue(CONFIG)
    outcomes = await asyncio.gather(*(own.delete(message(number)) for number in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None), QueueUnavailable, type(None)]
    assert getattr(outcomes[1], "facts", None) == {"cause": "ReceiptHandleIsInvalid"}


async def test_a_failed_batch_fails_each_of_its_deletions(sqs: Sqs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "GATHER_SECONDS", 0.01)
    sqs.answers["delete_message_batch"] = ReadTimeoutError(endpoint_url=URL)
    own = Queue(CONFIG)
    outcomes = await asyncio.gather(*(own.delete(message(number)) for number in range(3)), return_exceptions=True)
    assert [getattr(outcome, "facts", None) for outcome in outcomes] == [{"cause": "ReadTimeoutError"}] * 3


async def test_a_defect_in_a_batch_leaves_no_deletion_waiting(sqs: Sqs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "GATHER_SECONDS", 0.01)
    sqs.answers["delete_message_batch"] = ZeroDivisionError()
    own = Queue(CONFIG)
    tasks = [asyncio.create_task(own.delete(message(number))) for number in range(3)]
    await asyncio.wait(tasks)
    errors = [None if task.cancelled() else type(task.exception()) for task in tasks]
    assert sorted(map(str, errors)) == sorted(map(str, [ZeroDivisionError, None, None]))


async def test_a_close_waits_for_the_running_calls(sqs: Sqs) -> None:
    sqs.let_go.clear()
    own = Queue(CONFIG)
    receiving = asyncio.create_task(own.receive(1))
    while not sqs.calls:
        await asyncio.sleep(0.001)
    closing = asyncio.create_task(asyncio.to_thread(own.close))
    await asyncio.sleep(0.02)
    assert not sqs.closed
    sqs.let_go.set()
    await closing
    assert (sqs.closed, await receiving) == (True, [])


EXPIRED = ClientError({"Error": {"Code": "ExpiredToken"}}, "ReceiveMessage")


async def test_a_client_whose_keys_have_expired_is_replaced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clients = [Sqs(), Sqs(), Sqs()]
    clients[0].answers = {"receive_message": EXPIRED}
    opened = iter(clients)
    monkeypatch.setattr(boto3, "Session", lambda: next(opened))
    own = Queue(CONFIG)
    clients[0].let_go.clear()
    receiving = [asyncio.create_task(own.receive(1)) for _ in range(2)]
    while len(clients[0].calls) < 2:
        await asyncio.sleep(0.001)
    clients[0].let_go.set()
    failures = await asyncio.gather(*receiving, return_exceptions=True)
    assert {type(failure) for failure in failures} == {QueueUnavailable}
    assert await own.receive(1) == []
    own.close()
    assert [len(client.calls) for client in clients] == [2, 1, 0]


async def test_a_client_of_fixed_keys_is_kept(sqs: Sqs) -> None:
    sqs.answers = {"receive_message": EXPIRED}
    own = Queue(replace(CONFIG, credentials=Credentials("AKIAIOSFODNN7EXAMPLE", "a-secret-key", "a-token")))
    sqs.options = {}
    with pytest.raises(QueueUnavailable):
        await own.receive(1)
    own.close()
    assert sqs.options == {}
