"""The outcome of each message, by what the verbs make of it: deleted, hidden for a while, or left to the redrive."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from broker.aws.queue import Message, Queue, QueueConfig
from broker.domain.ids import new_id
from broker.domain.keys import final_key, part_key, staging_key
from broker.domain.media import Media
from broker.errors import (
    CredentialsExpired,
    DatabaseUnavailable,
    MediaNotFound,
    NothingUploaded,
    ProbeFailed,
    PromotionRunning,
    QueueUnavailable,
    QuotaExceeded,
    StorageRefused,
    StorageUnavailable,
    UploadExpired,
    UploadRejected,
)
from broker.lifecycle.verbs import Lifecycle
from broker.worker import events
from broker.worker.events import Events
from tests.support.samples import pending
from tests.worker.conftest import until
from tests.worker.s3_events import direct, record

pytestmark = pytest.mark.timeout(30)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MEDIA = new_id(NOW)
AWAY = StorageUnavailable(operation="head_object", cause="SlowDown")
SILENT = QueueUnavailable(cause="SlowDown")


def message(body: object, receives: int = 1, number: int = 0) -> Message:
    """Return a message that was sent ten seconds ago."""
    text = body if isinstance(body, str) else json.dumps(body)
    return Message(f"message {number}", text, f"receipt {number}", NOW - timedelta(seconds=10), receives)


def told(*keys: str, receives: int = 1, number: int = 0, bucket: str = "videos") -> Message:
    """Return a message that names these keys as created."""
    records = [record(key=key) for key in keys]
    for each in records:
        each["s3"]["bucket"]["name"] = bucket
    return message(direct(*records), receives, number)


class Heard(Queue):
    """A queue in memory. It notes deleted and hidden messages, and `limits` of the receives."""

    def __init__(self, *batches: list[Message] | Exception, visibility_seconds: int = 60) -> None:
        self.config = QueueConfig(url="", region="", visibility_seconds=visibility_seconds)
        self.batches = list(batches)
        self.limits: list[int] = []
        self.under_way = 0
        self.deleted: list[str] = []
        self.hidden: list[tuple[str, float]] = []
        self.failing: set[str] = set()

    async def receive(self, limit: int) -> list[Message]:
        self.limits.append(limit)
        self.under_way += 1
        try:
            await asyncio.sleep(0 if self.batches else 0.005)
            self._fail("receive")
            batch = self.batches.pop(0) if self.batches else []
            if isinstance(batch, Exception):
                raise batch
            return batch
        finally:
            self.under_way -= 1

    async def delete(self, message: Message) -> None:
        self._fail("delete")
        self.deleted.append(message.id)

    async def hide(self, message: Message, seconds: int) -> None:
        self._fail("hide")
        self.hidden.append((message.id, seconds))

    def _fail(self, operation: str) -> None:
        if operation in self.failing:
            raise SILENT


class Verbs(Lifecycle):
    """Verbs whose `confirm` ends as the test says: with each outcome in turn, and the last one repeatedly."""

    def __init__(self, *outcomes: Exception | None) -> None:
        self.outcomes = list(outcomes)
        self.asked: list[tuple[UUID, str | None, int | None]] = []
        self.let_go = asyncio.Event()
        self.let_go.set()

    async def confirm(self, media_id: UUID, owner: str | None, *, part: int | None = None) -> Media:
        self.asked.append((media_id, owner, part))
        await self.let_go.wait()
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if outcome is not None:
            raise outcome
        return pending()


def counted() -> Counter[str]:
    """Return how many messages the metrics count, by outcome."""
    samples = [sample for family in REGISTRY.collect() for sample in family.samples]
    return Counter(
        {next(iter(each.labels.values())): int(each.value) for each in samples if each.name == "broker_events_total"}
    )


def lag() -> float | None:
    """Return the lag that the metrics show."""
    return REGISTRY.get_sample_value("broker_queue_lag_seconds")


@asynccontextmanager
async def hearing(queue: Queue, verbs: Lifecycle) -> AsyncIterator[Events]:
    """Run the job, and stop it afterwards."""
    job = Events(queue, verbs, bucket_name="videos", clock=lambda: NOW)
    running = asyncio.create_task(job.run())
    try:
        yield job
    finally:
        await job.stop()
        await asyncio.wait_for(running, 10)


async def outcome_of(queue: Heard, verbs: Lifecycle) -> Counter[str]:
    """Process what the queue holds; return what was counted."""
    before = counted()
    async with hearing(queue, verbs):
        await until(lambda: not queue.batches and len(queue.limits) > 1)
        await asyncio.sleep(0.01)
    return counted() - before


DELETED: tuple[list[str], list[tuple[str, float]]] = (["message 0"], [])


@pytest.mark.parametrize(
    ("outcome", "counted_as", "left"),
    [
        (None, "completed", DELETED),
        (MediaNotFound(), "completed", DELETED),
        (NothingUploaded(), "completed", DELETED),
        (UploadRejected(differences="the size is 0 bytes"), "completed", DELETED),
        (UploadExpired(), "completed", DELETED),
        (AWAY, "away", ([], [("message 0", 60)])),
        (StorageRefused(operation="head_object", code="AccessDenied"), "away", ([], [("message 0", 60)])),
        (DatabaseUnavailable(), "away", ([], [("message 0", 60)])),
        (CredentialsExpired(), "away", ([], [("message 0", 60)])),
        (ProbeFailed(cause="status 1"), "away", ([], [("message 0", 60)])),
        (QuotaExceeded(quota="media_count", limit=1, used=1, asked=1), "poison", ([], [])),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
async def test_a_message_is_deleted_hidden_or_left(
    outcome: Exception | None, counted_as: str, left: tuple[list[str], list[tuple[str, float]]]
) -> None:
    queue, verbs = Heard([told(staging_key(MEDIA))]), Verbs(outcome)
    assert await outcome_of(queue, verbs) == {counted_as: 1}
    assert (queue.deleted, queue.hidden) == left
    assert verbs.asked == [(MEDIA, None, None)]


@pytest.mark.parametrize(
    ("sent", "counted_as", "asked"),
    [
        (told(part_key(MEDIA, 7)), "completed", [(MEDIA, None, 7)]),
        (told(staging_key(MEDIA), part_key(MEDIA, 7)), "completed", [(MEDIA, None, None), (MEDIA, None, 7)]),
        (told(staging_key(MEDIA), bucket="anothers"), "completed", []),
        (told(final_key(MEDIA, "video/mp4", 1)), "completed", []),
        (message({"Event": "s3:TestEvent"}), "ignored", []),
        (message(direct()), "ignored", []),
    ],
    ids=["a part", "several objects", "another bucket", "another key", "a test event", "no object"],
)
async def test_only_uploads_to_the_own_bucket_are_completed(
    sent: Message, counted_as: str, asked: list[tuple[UUID, None, int | None]]
) -> None:
    queue, verbs = Heard([sent]), Verbs(None)
    assert await outcome_of(queue, verbs) == {counted_as: 1}
    assert (queue.deleted, verbs.asked) == (["message 0"], asked)


async def test_the_lag_is_the_age_of_the_oldest_message() -> None:
    older = told(staging_key(MEDIA), number=1)
    queue = Heard([told(staging_key(MEDIA)), replace(older, sent_at=NOW - timedelta(seconds=90))])
    lags = []

    class Watched(Verbs):
        async def confirm(self, media_id: UUID, owner: str | None, *, part: int | None = None) -> Media:
            lags.append(lag())
            return await super().confirm(media_id, owner, part=part)

    await outcome_of(queue, Watched(None))
    assert (lags, lag()) == ([90, 90], 0)


@pytest.mark.parametrize(("receives", "seconds"), [(1, 60), (2, 120), (4, 480), (5, 900), (9, 900)])
async def test_an_outage_hides_a_message_for_longer_and_longer(receives: int, seconds: int) -> None:
    queue = Heard([told(staging_key(MEDIA), receives=receives)])
    assert await outcome_of(queue, Verbs(AWAY)) == {"away": 1}
    assert queue.hidden == [("message 0", seconds)]


@pytest.mark.parametrize(("receives", "lines"), [(1, 1), (2, 0)])
async def test_a_message_that_cannot_be_processed_is_logged_at_its_first_receive(receives: int, lines: int) -> None:
    queue = Heard([message("not JSON", receives)])
    with capture_logs() as logs:
        assert await outcome_of(queue, Verbs(None)) == {"poison": 1}
    assert (queue.deleted, queue.hidden) == ([], [])
    assert [line for line in logs if line["log_level"] == "error"] == [
        {
            "event": "message cannot be processed; it is left to the dead-letter queue",
            "log_level": "error",
            "message_id": "message 0",
            "reason": "JSONDecodeError",
        }
    ] * lines


async def test_a_defect_costs_its_own_message_alone() -> None:
    queue = Heard([told(staging_key(MEDIA)), told(staging_key(MEDIA), number=1)])
    with capture_logs() as logs:
        assert await outcome_of(queue, Verbs(ZeroDivisionError(), None)) == {"completed": 1}
    assert queue.deleted == ["message 1"]
    assert [(line["event"], line["message_id"]) for line in logs] == [("message failed", "message 0")]


async def test_a_promotion_of_another_caller_is_awaited_but_one_of_parts_is_not() -> None:
    for key, calls in ((staging_key(MEDIA), 3), (part_key(MEDIA, 1), 1)):
        queue, verbs = Heard([told(key)]), Verbs(PromotionRunning(), PromotionRunning(), None)
        assert await outcome_of(queue, verbs) == {"completed": 1}
        assert (queue.deleted, len(verbs.asked)) == (["message 0"], calls)


async def test_a_message_is_kept_hidden_while_it_is_processed() -> None:
    queue, verbs = Heard([told(staging_key(MEDIA))], visibility_seconds=0.04), Verbs(None)  # type: ignore[arg-type]
    verbs.let_go.clear()
    async with hearing(queue, verbs):
        await until(lambda: len(queue.hidden) >= 2)
        queue.failing = {"hide"}
        with capture_logs() as logs:
            await until(lambda: logs)
        queue.failing = set()
        before = len(queue.hidden)
        await until(lambda: len(queue.hidden) > before)
        verbs.let_go.set()
        await until(lambda: queue.deleted)
        hidden = list(queue.hidden)
        await asyncio.sleep(0.1)
        assert (queue.hidden, set(hidden)) == (hidden, {("message 0", 0.04)})
    assert logs[0] == {
        "event": "message could not be kept hidden",
        "log_level": "warning",
        "message_id": "message 0",
        "reason": str(SILENT),
    }


async def test_a_message_is_hidden_again_after_half_of_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise asyncio.CancelledError

    monkeypatch.setattr(asyncio, "sleep", sleep)
    queue = Heard()
    job = Events(queue, Verbs(None), bucket_name="videos", clock=lambda: NOW)
    with pytest.raises(asyncio.CancelledError):
        await job._extend(told(staging_key(MEDIA)))
    assert (slept, queue.hidden) == ([30, 30, 30], [("message 0", 60)] * 2)


@pytest.mark.parametrize("operation", ["receive", "delete", "hide"])
async def test_a_queue_that_is_unavailable_pauses_the_job(monkeypatch: pytest.MonkeyPatch, operation: str) -> None:
    monkeypatch.setattr(events, "FIRST_REST_SECONDS", 0.05)
    queue = Heard([told(staging_key(MEDIA))])
    queue.failing = {operation}
    with capture_logs() as logs:
        async with hearing(queue, Verbs(AWAY if operation == "hide" else None)):
            await until(lambda: any(line["event"] == "events pause" for line in logs))
            queue.failing = set()
            receives = len(queue.limits)
            await until(lambda: len(queue.limits) > receives)
    pauses = [line for line in logs if line["event"] == "events pause"]
    assert (pauses[0]["log_level"], pauses[0]["seconds"]) == ("warning", 0.05)


MESSAGE = [told(staging_key(MEDIA))]


@pytest.mark.parametrize(
    ("batches", "pauses"),
    [
        ([SILENT, SILENT, SILENT, SILENT], [0.01, 0.02, 0.03, 0.03]),
        ([SILENT, SILENT, [], SILENT], [0.01, 0.02, 0.01]),
        ([SILENT, MESSAGE], [0.01, 0.02]),
    ],
    ids=["up to a bound", "anew after a receive of nothing", "further if S3 is away"],
)
async def test_pauses_grow_while_nothing_succeeds(
    monkeypatch: pytest.MonkeyPatch, batches: list[list[Message] | Exception], pauses: list[float]
) -> None:
    monkeypatch.setattr(events, "FIRST_REST_SECONDS", 0.01)
    monkeypatch.setattr(events, "MAX_REST_SECONDS", 0.03)
    queue = Heard(*batches)
    with capture_logs() as logs:
        async with hearing(queue, Verbs(AWAY)):
            await until(lambda: sum(line["event"] == "events pause" for line in logs) >= len(pauses))
    lines = [line for line in logs if line["event"] == "events pause"]
    assert [line["seconds"] for line in lines] == pauses
    assert {line["reason"] for line in lines} == ({str(SILENT), str(AWAY)} if MESSAGE in batches else {str(SILENT)})


async def test_nothing_is_received_during_a_pause_and_it_begins_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "FIRST_REST_SECONDS", 3600)
    queue, verbs = Heard([told(staging_key(MEDIA), number=number) for number in range(3)]), Verbs(AWAY)
    with capture_logs() as logs:
        async with hearing(queue, verbs):
            await until(lambda: len(queue.hidden) == 3)
            receives = len(queue.limits)
            await asyncio.sleep(0.05)
            assert len(queue.limits) <= receives + 1  # one may have been under way when the pause began
    assert [line["event"] for line in logs] == ["events pause"]


async def test_messages_that_a_stop_finds_are_returned() -> None:
    queue = Heard()
    job = Events(queue, Verbs(None), bucket_name="videos", clock=lambda: NOW)
    await job.stop()
    await job._handle(told(staging_key(MEDIA)))
    assert (queue.hidden, queue.deleted) == ([("message 0", 0)], [])


async def test_a_stop_leaves_slow_messages_to_another_receive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "STOP_SECONDS", 0.01)
    queue, verbs = Heard([told(staging_key(MEDIA)), told(staging_key(MEDIA), number=1)]), Verbs(None)
    verbs.let_go.clear()
    with capture_logs() as logs:
        async with hearing(queue, verbs):
            await until(lambda: len(verbs.asked) == 2)
    assert queue.deleted == []
    assert logs == [{"event": "messages are left to another receive", "log_level": "warning", "count": 2}]


async def test_a_full_receive_brings_help_and_a_short_one_ends_it() -> None:
    full = [[told(staging_key(MEDIA), number=number) for number in range(10)] for _ in range(30)]
    queue, seen = Heard(*full), []

    class Watched(Verbs):
        async def confirm(self, media_id: UUID, owner: str | None, *, part: int | None = None) -> Media:
            seen.append(queue.under_way)
            return await super().confirm(media_id, owner, part=part)

    async with hearing(queue, Watched(None)):
        await until(lambda: len(queue.deleted) == 300)
        assert max(seen) == events.RECEIVERS
        await until(lambda: queue.under_way <= 1)
        receives = len(queue.limits)
        await until(lambda: len(queue.limits) > receives + 3)
        assert queue.under_way <= 1
    assert set(queue.limits) == {10}
