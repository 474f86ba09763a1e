"""The loop of webhooks: what it claims, and what each answer of a receiver leads to."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from broker.domain.announcement import Announcement
from broker.errors import DatabaseUnavailable
from broker.store import Outbox
from broker.worker import webhooks
from broker.worker.sender import Answer
from broker.worker.webhooks import BATCH, CLAIM, CONCURRENCY, KEEP_GIVEN_UP, Webhooks, delay
from tests.worker.conftest import until
from tests.worker.sending import announced

pytestmark = pytest.mark.timeout(30)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TARGET, OTHER = "https://user:secret@app.example/hook", "https://other.example/"
FIRST = replace(announced(TARGET), give_up_at=NOW + timedelta(days=3))
AWAY = DatabaseUnavailable()
AFTER_45_SECONDS = NOW + timedelta(seconds=45)

Claims = list[Announcement] | Exception


class Kept(Outbox):
    """An outbox in memory. Its claims return what the test says, and nothing at the end; it notes each outcome."""

    def __init__(self, *claims: Claims) -> None:
        self.claims = {TARGET: list(claims)}
        self.claimed: list[tuple[str, datetime, datetime, int]] = []
        self.outcomes: list[tuple[Any, ...]] = []
        self.tidied: list[tuple[datetime, datetime]] = []
        self.tidying_fails = False

    async def claim(self, target: str, now: datetime, *, lease_until: datetime, limit: int) -> list[Announcement]:
        self.claimed.append((target, now, lease_until, limit))
        await asyncio.sleep(0)
        claims = self.claims.get(target)
        claim = claims.pop(0) if claims else []
        if isinstance(claim, Exception):
            raise claim
        return claim

    async def delivered(self, announcement: Announcement) -> None:
        self.outcomes.append(("delivered", announcement.message_id))

    async def postpone(self, announcement: Announcement, next_at: datetime | None, reason: str) -> None:
        self.outcomes.append(("postponed", announcement.message_id, next_at, reason))

    async def disable(self, target: str, at: datetime) -> None:
        self.outcomes.append(("disabled", target, at))

    async def tidy(self, now: datetime, *, forget_before: datetime) -> None:
        self.tidied.append((now, forget_before))
        if self.tidying_fails:
            raise AWAY


class Answering:
    """A receiver that gives these answers in turn, and the last one repeatedly."""

    def __init__(self, *answers: Answer | Exception) -> None:
        self.answers = list(answers)
        self.sent: list[tuple[Announcement, datetime]] = []
        self.under_way = self.most_under_way = 0
        self.let_go = asyncio.Event()
        self.let_go.set()

    async def send(self, announcement: Announcement, now: datetime) -> Answer:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.sent.append((announcement, now))
        if isinstance(answer, Exception):
            raise answer
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await self.let_go.wait()
        await asyncio.sleep(0)
        self.under_way -= 1
        return answer


def job(outbox: Outbox, receiver: Answering, *targets: str) -> Webhooks:
    return Webhooks(outbox, receiver, targets or (TARGET,), clock=lambda: NOW)


def counted() -> Counter[str]:
    """Return how many deliveries the metrics count, by outcome."""
    samples = [sample for family in REGISTRY.collect() for sample in family.samples]
    name = "broker_webhook_deliveries_total"
    return Counter({each.labels["outcome"]: int(each.value) for each in samples if each.name == name})


async def test_a_batch_is_claimed_for_twice_the_time_of_hanging_receivers() -> None:
    outbox, receiver = Kept([FIRST, FIRST]), Answering(Answer(200))
    assert await job(outbox, receiver).once(TARGET) == 2
    assert outbox.claimed == [(TARGET, NOW, NOW + CLAIM, BATCH)]
    assert receiver.sent == [(FIRST, NOW)] * 2


@pytest.mark.parametrize(
    ("answer", "outcome", "steps"),
    [
        (Answer(200), "delivered", [("delivered",)]),
        (Answer(500), "failed", [("postponed", AFTER_45_SECONDS, "it answered 500")]),
        (Answer(None, "it hung up"), "failed", [("postponed", AFTER_45_SECONDS, "it hung up")]),
        (
            Answer(410),
            "disabled",
            [("disabled", TARGET, NOW), ("postponed", AFTER_45_SECONDS, "it answered 410")],
        ),
    ],
    ids=["accepted", "refused", "silent", "gone"],
)
async def test_an_answer_decides_what_is_recorded_counted_and_logged(
    monkeypatch: pytest.MonkeyPatch, answer: Answer, outcome: str, steps: list[tuple[Any, ...]]
) -> None:
    monkeypatch.setattr(random, "random", lambda: 0.5)
    third = replace(FIRST, attempts=2)
    outbox, before = Kept([third]), counted()
    with capture_logs() as logs:
        await job(outbox, Answering(answer)).once(TARGET)
    assert counted() - before == {outcome: 1}
    assert outbox.outcomes == [
        (kind, *facts) if kind == "disabled" else (kind, third.message_id, *facts) for kind, *facts in steps
    ]
    line = {
        "event": "webhook is not delivered",
        "log_level": "info" if outcome == "failed" else "error",
        "webhook_id": third.message_id,
        "target_host": "app.example",
        "outcome": outcome,
        "attempts": 3,
        "reason": answer.reason,
    }
    assert logs == ([] if outcome == "delivered" else [line])


@pytest.mark.parametrize(("too_late", "given_up"), [(timedelta(0), False), (timedelta(microseconds=1), True)])
async def test_a_webhook_is_given_up_if_its_next_attempt_comes_too_late(
    monkeypatch: pytest.MonkeyPatch, too_late: timedelta, given_up: bool
) -> None:
    monkeypatch.setattr(random, "random", lambda: 0.5)
    next_at = NOW + delay(1, 0.5)
    last = replace(FIRST, give_up_at=next_at - too_late)
    outbox, before = Kept([last]), counted()
    with capture_logs() as logs:
        await job(outbox, Answering(Answer(500))).once(TARGET)
    assert outbox.outcomes == [("postponed", last.message_id, None if given_up else next_at, "it answered 500")]
    outcome = "given up" if given_up else "failed"
    assert counted() - before == {outcome: 1}
    assert (logs[0]["outcome"], logs[0]["log_level"]) == (outcome, "error" if given_up else "info")


async def test_a_few_webhooks_are_sent_at_a_time() -> None:
    receiver = Answering(Answer(200))
    assert await job(Kept([FIRST] * 20), receiver).once(TARGET) == 20
    assert receiver.most_under_way == CONCURRENCY


async def test_a_defect_is_raised_after_the_others_are_delivered() -> None:
    outbox, receiver = Kept([FIRST] * 3), Answering(ZeroDivisionError(), Answer(200))
    receiver.let_go.clear()
    delivering = asyncio.create_task(job(outbox, receiver).once(TARGET))
    await until(lambda: len(receiver.sent) == 3)
    assert not delivering.done()
    receiver.let_go.set()
    with pytest.raises(ZeroDivisionError):
        await delivering
    assert outbox.outcomes == [("delivered", FIRST.message_id)] * 2


@asynccontextmanager
async def running(job: Webhooks) -> AsyncIterator[None]:
    """Run the job, and stop it afterwards."""
    task = asyncio.create_task(job.run())
    try:
        yield
    finally:
        await job.stop()
        await asyncio.wait_for(task, 10)


async def test_a_stop_sends_no_further_webhook() -> None:
    receiver = Answering(Answer(200))
    receiver.let_go.clear()
    outbox = Kept([FIRST] * 20)
    webhooks = job(outbox, receiver)
    async with running(webhooks):
        await until(lambda: len(receiver.sent) == CONCURRENCY)
        await webhooks.stop()
        receiver.let_go.set()
    assert len(receiver.sent) == len(outbox.outcomes) == CONCURRENCY


async def test_each_target_goes_on_by_itself_and_rests_when_nothing_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "REST_SECONDS", 3600)
    outbox = Kept([FIRST], [FIRST])
    async with running(job(outbox, Answering(Answer(200)), TARGET, OTHER)):
        await until(lambda: len(outbox.claimed) == 4)
        await asyncio.sleep(0.05)
    assert Counter(target for target, *_ in outbox.claimed) == {TARGET: 3, OTHER: 1}


async def test_no_failure_ends_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "REST_SECONDS", 0.01)
    outbox = Kept(AWAY, ZeroDivisionError(), [FIRST])
    with capture_logs() as logs:
        async with running(job(outbox, Answering(Answer(200)))):
            await until(lambda: outbox.outcomes)
    assert logs == [
        {"event": "webhooks pause", "log_level": "warning", "reason": str(AWAY)},
        {"event": "webhooks failed", "log_level": "error", "exc_info": True, "target_host": "app.example"},
    ]


async def test_old_webhooks_are_forgotten_from_time_to_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "TIDY_EVERY_SECONDS", 0.01)
    outbox = Kept()
    outbox.tidying_fails = True
    async with running(job(outbox, Answering(Answer(200)))):
        await until(lambda: len(outbox.tidied) >= 3)
    assert set(outbox.tidied) == {(NOW, NOW - KEEP_GIVEN_UP)}


async def test_between_two_tidyings_the_job_rests() -> None:
    outbox = Kept()
    async with running(job(outbox, Answering(Answer(200)))):
        await until(lambda: outbox.tidied)
        await asyncio.sleep(0.05)
    assert len(outbox.tidied) == 1
