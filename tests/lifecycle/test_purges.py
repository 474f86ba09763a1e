"""Keys of many callers are removed together; the fate of one key concerns no other."""

import asyncio
from collections.abc import Iterable
from contextvars import ContextVar
from datetime import timedelta
from itertools import chain

import pytest
from structlog.testing import capture_logs

from broker.aws.deletion import Deleted, Deletion
from broker.errors import StorageRefused, StorageUnavailable
from broker.lifecycle import purging
from broker.lifecycle.purging import JOBS_AT_ONCE, MAX_KEYS
from broker.lifecycle.settlement import Settlement
from broker.store import Store
from tests.lifecycle.in_memory import Memory


class Odd(Deletion):
    """Note the deletions, refuse some keys, and take long for the versions of others."""

    def __init__(self) -> None:
        self.requests: list[list[str]] = []
        self.let_go = asyncio.Event()

    async def delete(self, keys: Iterable[str]) -> Deleted:
        self.requests.append(list(keys))
        return Deleted(
            versioned=frozenset(key for key in self.requests[-1] if key.startswith("versioned")),
            failures={
                key: StorageRefused(operation="delete_objects", code="AccessDenied")
                for key in self.requests[-1]
                if key.startswith("refused")
            },
        )

    async def purge_versions(self, key: str) -> bool:
        await self.let_go.wait()
        return key != "versioned for long"


@pytest.fixture
def odd() -> Odd:
    return Odd()


async def test_callers_share_requests_of_at_most_a_thousand_keys(odd: Odd) -> None:
    purges = purging.Purges(odd)
    keys = [f"key {number}" for number in range(2 * MAX_KEYS + 5)]
    outcomes = await asyncio.gather(*map(purges.remove, keys))
    assert all(outcomes)
    assert [len(request) for request in odd.requests] == [MAX_KEYS, MAX_KEYS, 5]
    assert [*chain.from_iterable(odd.requests)] == keys


async def test_a_key_that_two_callers_name_is_removed_once(odd: Odd) -> None:
    purges = purging.Purges(odd)
    purges.add("key")
    assert all(await asyncio.gather(purges.remove("key"), purges.remove("key")))
    assert odd.requests == [["key"]]


async def test_a_refused_key_fails_its_own_callers_alone(odd: Odd) -> None:
    purges = purging.Purges(odd)
    outcomes = await asyncio.gather(
        purges.remove("a"), purges.remove("refused"), purges.remove("b", "refused"), return_exceptions=True
    )
    assert [outcome if outcome is True else type(outcome) for outcome in outcomes] == [
        True,
        StorageRefused,
        StorageRefused,
    ]


async def test_many_versions_of_one_key_delay_no_other(odd: Odd) -> None:
    purges = purging.Purges(odd)
    slow = [asyncio.create_task(purges.remove(key)) for key in ("versioned", "versioned for long")]
    assert await purges.remove("a")
    assert await purges.remove("b")
    assert not any(task.done() for task in slow)
    odd.let_go.set()
    assert await asyncio.gather(*slow) == [True, False]


async def test_keys_beyond_the_bound_are_left_to_the_sweep(odd: Odd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purging, "MAX_WAITING_KEYS", 3)
    purges = purging.Purges(odd)
    purges.add("a", "b")
    purges.add("c", "d")
    purges.add("e")
    await purges.finish()
    assert odd.requests == [["a", "b", "e"]]
    purges.add("f", "g", "h")
    await purges.finish()
    assert odd.requests[1:] == [["f", "g", "h"]]


class Held(Odd):
    """Note the request of each deletion, and hold it until `let_go` is set; refuse all keys if `error` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.owners: list[str] = []
        self.error: Exception | None = None

    async def delete(self, keys: Iterable[str]) -> Deleted:
        self.owners.append(REQUEST.get())
        deleted = await super().delete(keys)
        await self.let_go.wait()
        if self.error is not None:
            raise self.error
        return deleted

    async def purge_versions(self, key: str) -> bool:
        raise UNAVAILABLE


REQUEST: ContextVar[str] = ContextVar("request", default="none")
UNAVAILABLE = StorageUnavailable(operation="delete_objects", cause="SlowDown")
LEFT = {"event": "objects are left to the sweep", "log_level": "info", "reason": str(UNAVAILABLE)}


@pytest.fixture
def held() -> Held:
    return Held()


async def test_keys_are_gathered_only_while_a_request_is_under_way(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purging, "GATHER_SECONDS", 3600)
    purges = purging.Purges(held)
    first = asyncio.create_task(purges.remove("a"))
    while not held.requests:
        await asyncio.sleep(0)
    purges.add("b")
    await asyncio.sleep(0.01)
    purges.add("c")
    assert held.requests == [["a"]]
    held.let_go.set()
    assert await first
    await purges.finish()
    assert held.requests == [["a"], ["b", "c"]]


async def test_a_key_on_its_own_is_removed_at_once(odd: Odd) -> None:
    purging.Purges(odd).add("key")
    for _ in range(5):
        await asyncio.sleep(0)
    assert odd.requests == [["key"]]


async def test_gathered_keys_wait_for_a_moment_alone(held: Held) -> None:
    purges = purging.Purges(held)
    purges.add("a")
    while not held.requests:
        await asyncio.sleep(0)
    purges.add("b")
    while held.requests != [["a"], ["b"]]:
        await asyncio.sleep(0.001)
    held.let_go.set()
    await purges.finish()


@pytest.mark.parametrize("most_keys", [1, MAX_KEYS])
async def test_the_background_belongs_to_no_request(
    held: Held, monkeypatch: pytest.MonkeyPatch, most_keys: int
) -> None:
    monkeypatch.setattr(purging, "MAX_KEYS", most_keys)
    held.let_go.set()
    purges = purging.Purges(held)
    REQUEST.set("of anna")

    async def job() -> None:
        held.owners.append(REQUEST.get())

    purges.add("a")
    while not held.owners:
        await asyncio.sleep(0)
    purges.add_job(job)
    await purges.finish()
    await purges.remove("b")
    assert held.owners == ["none", "none", "of anna"]


async def test_jobs_run_a_few_at_a_time_and_beyond_their_bound_are_left_to_the_sweep(
    odd: Odd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purging, "MAX_JOBS", 3)
    monkeypatch.setattr(purging, "JOBS_AT_ONCE", 2)
    purges = purging.Purges(odd)
    under_way: list[int] = []
    running = 0

    async def job() -> None:
        nonlocal running
        running += 1
        under_way.append(running)
        await odd.let_go.wait()
        running -= 1

    for _ in range(4):
        purges.add_job(job)
    while len(under_way) < 2:
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    assert under_way == [1, 2]
    odd.let_go.set()
    await purges.finish()
    assert len(under_way) == 3
    for _ in range(4):
        purges.add_job(job)
    await purges.finish()
    assert len(under_way) == 6


@pytest.mark.timeout(20)
async def test_a_stop_leaves_the_purges_that_s3_does_not_answer_to_the_sweep(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purging, "STOP_SECONDS", 0.05)
    bucket = Memory()
    bucket.deletion = held
    settlement = Settlement(Store.__new__(Store), bucket, grace=timedelta())
    cancelled = 0

    async def job() -> None:
        nonlocal cancelled
        try:
            await held.let_go.wait()
        except asyncio.CancelledError:
            cancelled += 1
            raise

    settlement.purges.add("a")
    for _ in range(50):
        settlement.purges.add_job(job)
    with capture_logs() as logs:
        await settlement.close()
    assert held.requests == [["a"]]
    assert cancelled == JOBS_AT_ONCE
    assert logs == [LEFT | {"count": 51, "reason": "the process stops"}]


async def test_what_is_left_to_the_sweep_is_logged_once(held: Held) -> None:
    held.let_go.set()
    purges = purging.Purges(held)

    async def failing_job() -> None:
        raise UNAVAILABLE

    with capture_logs() as logs:
        held.error = UNAVAILABLE
        purges.add("a", "b", "c")
        await purges.finish()
        purges.add("d")
        await purges.finish()
        with pytest.raises(StorageUnavailable):
            await purges.remove("d", "e")
        held.error = None
        purges.add("versioned")
        await purges.finish()
        with pytest.raises(StorageUnavailable):
            await purges.remove("versioned")
        purges.add_job(failing_job)
        await purges.finish()
    assert logs == [LEFT | {"count": count} for count in (3, 1, 1, 1, 1)]


async def test_a_defect_is_logged_as_an_error(held: Held) -> None:
    held.let_go.set()
    held.error = ZeroDivisionError()
    purges = purging.Purges(held)
    with capture_logs() as logs:
        purges.add("a", "b")
        await purges.finish()
    assert logs == [
        {"event": LEFT["event"], "log_level": "error", "count": 2, "exc_info": held.error},
    ]


async def test_a_caller_that_leaves_takes_nothing_from_others(held: Held) -> None:
    purges = purging.Purges(held)
    leaving, staying = (asyncio.create_task(purges.remove("a")) for _ in range(2))
    while not held.requests:
        await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    held.let_go.set()
    assert await staying
    await purges.finish()
    assert held.requests == [["a"]]
