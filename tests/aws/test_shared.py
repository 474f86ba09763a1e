"""A call that many callers share answers each of them with a call that began after it asked."""

import asyncio

import pytest

from broker.aws.shared import Shared


class Call:
    """A call that a test lets end, and that fails if it is told to."""

    def __init__(self) -> None:
        self.began = 0
        self.may_end = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> None:
        self.began += 1
        await self.may_end.wait()
        if self.error is not None:
            raise self.error


async def begun(call: Call, count: int) -> None:
    while call.began < count:
        await asyncio.sleep(0)


async def test_callers_that_ask_together_share_one_call() -> None:
    call = Call()
    shared = Shared(call)
    callers = [asyncio.create_task(shared.join()) for _ in range(100)]
    await begun(call, 1)
    call.may_end.set()
    await asyncio.gather(*callers)
    assert call.began == 1


async def test_a_caller_that_asks_during_a_call_waits_for_the_next_one() -> None:
    call = Call()
    shared = Shared(call)
    first = asyncio.create_task(shared.join())
    await begun(call, 1)
    later = [asyncio.create_task(shared.join()) for _ in range(3)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert call.began == 1  # never twice at a time
    call.may_end.set()
    await asyncio.gather(first, *later)
    assert call.began == 2


async def test_a_failure_reaches_every_caller_and_the_next_call_is_made_anew() -> None:
    call = Call()
    shared = Shared(call)
    call.may_end.set()
    call.error = ZeroDivisionError()
    outcomes = await asyncio.gather(shared.join(), shared.join(), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ZeroDivisionError] * 2
    call.error = None
    await shared.join()
    assert call.began == 2


async def test_a_caller_that_leaves_ends_the_call_of_no_other() -> None:
    call = Call()
    shared = Shared(call)
    leaving, staying = (asyncio.create_task(shared.join()) for _ in range(2))
    await begun(call, 1)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    call.may_end.set()
    await staying
    assert call.began == 1
