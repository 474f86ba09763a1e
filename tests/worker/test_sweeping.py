"""The loop of the sweep: what it claims, how long it rests, and what it makes of each failure."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from broker.domain.media import Media, State
from broker.errors import BrokerError, DatabaseUnavailable, StorageRefused, StorageUnavailable
from broker.lifecycle.leases import LEASE
from broker.lifecycle.settlement import Settlement
from broker.store import Store
from broker.worker import sweep
from broker.worker.sweep import BATCH, Sweep
from tests.support.samples import pending
from tests.worker.conftest import until

pytestmark = pytest.mark.timeout(30)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
AWAY = StorageUnavailable(operation="head_object", cause="SlowDown")
DATABASE_AWAY = DatabaseUnavailable()
REFUSED = StorageRefused(operation="head_object", code="AccessDenied")
FOR_EVER = 3600.0


class Due(Store):
    """A store whose claims return what the test says: a number of media, or an error; at the end nothing is due."""

    def __init__(self, *claims: int | Exception) -> None:
        self.claims = list(claims)
        self.claimed: list[tuple[datetime, datetime, int]] = []
        self.composing: list[bool] = []
        """Of each claim, whether it takes media that may have to be composed."""

    async def claim_due(
        self, now: datetime, *, lease_until: datetime, limit: int, composes: bool = True
    ) -> list[Media]:
        self.claimed.append((now, lease_until, limit))
        self.composing.append(composes)
        await asyncio.sleep(0)
        claim = self.claims.pop(0) if self.claims else 0
        if isinstance(claim, Exception):
            raise claim
        assert claim <= limit
        return [pending() for _ in range(claim)]


class Settling(Settlement):
    """A settlement whose judgements end as the test says: with each outcome in turn, then with success."""

    def __init__(self, *outcomes: Exception | None) -> None:
        self.grace = timedelta()
        self.outcomes = list(outcomes)
        self.judged = 0
        self.let_go = asyncio.Event()
        self.let_go.set()
        self.has_room = True

    def composes_more(self) -> bool:
        return self.has_room

    async def judge(self, media: Media, part: int | None = None) -> Media:
        outcome = self.outcomes.pop(0) if self.outcomes else None
        await self.let_go.wait()
        self.judged += 1
        if outcome is not None:
            raise outcome
        return media._replace(state=State.READY)


class Time:
    """The wall clock and the stopwatch of a machine, which a test moves."""

    def __init__(self) -> None:
        self.wall, self.seconds = NOW, 0.0

    def clock(self) -> datetime:
        return self.wall

    def stopwatch(self) -> float:
        return self.seconds


def job(store: Store, settlement: Settlement, rest_seconds: float = FOR_EVER, time: Time | None = None) -> Sweep:
    time = time or Time()
    return Sweep(store, settlement, rest_seconds=rest_seconds, clock=time.clock, stopwatch=time.stopwatch)


@asynccontextmanager
async def sweeping(sweep: Sweep) -> AsyncIterator[None]:
    """Run the sweep, and stop it afterwards."""
    running = asyncio.create_task(sweep.run())
    try:
        yield
    finally:
        await sweep.stop()
        await asyncio.wait_for(running, 10)


async def test_a_batch_is_claimed_until_the_end_of_a_lease() -> None:
    store = Due(3)
    assert await job(store, Settling()).once() == 3
    assert store.claimed == [(NOW, NOW + LEASE, BATCH)]


@pytest.mark.parametrize(
    ("outcomes", "result"),
    [
        ([None, AWAY], 1),
        ([REFUSED, AWAY], 0),
        ([REFUSED, REFUSED], 0),
        ([AWAY, AWAY], AWAY),
        ([DATABASE_AWAY, AWAY], DATABASE_AWAY),
        ([ZeroDivisionError(), None], 1),
    ],
)
async def test_a_batch_fails_only_if_all_of_it_met_an_outage(
    outcomes: list[Exception | None], result: int | BrokerError
) -> None:
    (outcome,) = await asyncio.gather(job(Due(2), Settling(*outcomes)).once(), return_exceptions=True)
    assert outcome == result


async def test_nothing_due_is_no_failure() -> None:
    assert await job(Due(), Settling()).once() == 0


@pytest.mark.parametrize(
    ("outcome", "line"),
    [
        (AWAY, {"event": "media waits for another sweep", "log_level": "info", "reason": str(AWAY)}),
        (DATABASE_AWAY, {"event": "media waits for another sweep", "log_level": "info", "reason": str(DATABASE_AWAY)}),
        (REFUSED, {"event": "media could not be settled", "log_level": "error", "reason": str(REFUSED)}),
        (ZeroDivisionError(), {"event": "media could not be settled", "log_level": "error", "exc_info": True}),
    ],
    ids=["S3 is away", "the database is away", "refused", "a defect"],
)
async def test_a_failure_is_logged_with_its_media(outcome: Exception, line: dict[str, Any]) -> None:
    store = Due()
    media = pending()
    with capture_logs() as logs:
        await job(store, Settling(outcome))._settle(media)
    assert logs == [line | {"media_id": str(media.id)}]


async def test_full_batches_follow_each_other_and_a_short_one_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "BATCH", 2)
    store, settlement = Due(2, 2, 1, 2), Settling()
    async with sweeping(job(store, settlement)):
        await until(lambda: settlement.judged == 5)
        await asyncio.sleep(0.05)
    assert [limit for _, _, limit in store.claimed] == [2, 2, 2]


async def test_a_full_batch_that_s3_refuses_is_followed_by_a_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "BATCH", 2)
    settlement = Settling(*[REFUSED] * 4)
    sweeper = job(Due(*[2] * 4), settlement)
    pauses = []
    for _ in range(4):
        pauses.append(await sweeper._turn())
        await sweeper._places.wait_until_empty(10)
    assert pauses == [0.0, FOR_EVER, FOR_EVER, 0.0]


async def test_a_sweep_without_room_for_compositions_claims_the_other_media_and_comes_again_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sweep, "ROOM_SECONDS", 0.01)
    store, settlement = Due(1, 1), Settling()
    settlement.has_room = False
    async with sweeping(job(store, settlement)):
        await until(lambda: settlement.judged == 2)
        settlement.has_room = True
        await until(lambda: store.composing[-1])
    assert store.composing[:2] == [False, False]


async def test_an_idle_sweep_comes_again_after_its_rest() -> None:
    store = Due(0, 0, 1)
    settlement = Settling()
    async with sweeping(job(store, settlement, rest_seconds=0.01)):
        await until(lambda: settlement.judged == 1)


def pauses(logs: list[Any]) -> list[tuple[str, float]]:
    return [(line["reason"], line["seconds"]) for line in logs if line["event"] == "sweep pauses"]


async def test_the_sweep_pauses_for_outages_without_a_success_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "OUTAGES", 3)
    store = Due(*[1] * 20)
    settlement = Settling(AWAY, AWAY, None, AWAY, DATABASE_AWAY, AWAY, AWAY, AWAY, AWAY, None, AWAY, AWAY, AWAY)
    with capture_logs() as logs:
        async with sweeping(job(store, settlement, rest_seconds=0.01)):
            await until(lambda: settlement.judged == 20)
    reason = "S3 or the database is unavailable"
    assert pauses(logs) == [(reason, 0.02), (reason, 0.04), (reason, 0.02)]


async def test_the_sweep_pauses_while_it_cannot_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "MAX_REST_SECONDS", 0.03)
    store = Due(DATABASE_AWAY, ZeroDivisionError(), DATABASE_AWAY, 0, DATABASE_AWAY, 1)
    settlement = Settling()
    with capture_logs() as logs:
        async with sweeping(job(store, settlement, rest_seconds=0.01)):
            await until(lambda: settlement.judged == 1)
    away = str(DATABASE_AWAY)
    assert pauses(logs) == [(away, 0.02), ("ZeroDivisionError", 0.03), (away, 0.03), (away, 0.02)]
    assert [line["log_level"] for line in logs if line["event"] == "sweep failed"] == ["error"]


async def test_a_stop_leaves_slow_media_to_another_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "STOP_SECONDS", 0.01)
    store, settlement = Due(2), Settling()
    settlement.let_go.clear()
    with capture_logs() as logs:
        async with sweeping(job(store, settlement)):
            await until(lambda: store.claimed)
    assert logs == [{"event": "media are left to another sweep", "log_level": "warning", "count": 2}]


async def test_a_stop_waits_for_quick_media_in_silence() -> None:
    settlement = Settling()
    with capture_logs() as logs:
        async with sweeping(job(Due(2), settlement)):
            await until(lambda: settlement.judged == 2)
    assert logs == []


@pytest.mark.parametrize(
    ("jump", "waits"),
    [
        (LEASE / 2, False),
        (-LEASE / 2, False),
        (LEASE / 2 + timedelta(seconds=1), True),
        (-LEASE / 2 - timedelta(seconds=1), True),
    ],
)
async def test_after_a_jump_of_the_clock_media_under_way_come_first(jump: timedelta, waits: bool) -> None:
    store, settlement, time = Due(1, 0), Settling(), Time()
    settlement.let_go.clear()
    async with sweeping(job(store, settlement, 0.01, time)):
        await until(lambda: len(store.claimed) >= 2)
        time.wall += timedelta(seconds=100) + jump
        time.seconds += 100
        claims = len(store.claimed)
        if waits:
            await asyncio.sleep(0.05)
            assert len(store.claimed) <= claims + 1  # one may have been under way when the clock jumped
        else:
            await until(lambda: len(store.claimed) > claims + 1)
        settlement.let_go.set()
        await until(lambda: len(store.claimed) > claims + 2)
