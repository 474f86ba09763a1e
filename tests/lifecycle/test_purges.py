"""Keys of many callers are removed together; the fate of one key concerns no other."""

import asyncio
from collections.abc import Iterable
from itertools import chain

import pytest

from broker.aws.deletion import Deleted, Deletion
from broker.errors import StorageRefused
from broker.lifecycle import purging
from broker.lifecycle.purging import MAX_KEYS


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
