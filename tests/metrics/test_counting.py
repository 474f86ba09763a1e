"""Each event is counted once, after it happened."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from broker.domain.media import Event
from broker.errors import IllegalTransition
from broker.store import Store
from tests.support.databases import sqlite_url
from tests.support.samples import UNLIMITED, pending


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """Return a store of its own."""
    store = Store(sqlite_url(tmp_path))
    yield store
    await store.close()


def read(name: str, **labels: str) -> float:
    """Return what a series shows now."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_a_change_of_state_is_counted_by_its_event_and_a_lost_race_is_not(store: Store) -> None:
    before = read("broker_transitions_total", event="differ")
    media = await store.add(pending(), UNLIMITED)
    assert await store.change(media, Event.DIFFER, due_at=None) is not None
    assert read("broker_transitions_total", event="differ") == before + 1
    assert await store.change(media, Event.DIFFER, due_at=None) is None
    assert read("broker_transitions_total", event="differ") == before + 1


async def test_a_forbidden_transition_is_not_counted(store: Store) -> None:
    before = read("broker_transitions_total", event="promote")
    media = await store.add(pending(), UNLIMITED)
    with pytest.raises(IllegalTransition):
        await store.change(media, Event.PROMOTE)
    assert read("broker_transitions_total", event="promote") == before


async def test_writes_in_one_transaction_are_one_observation_of_their_number(store: Store) -> None:
    batches, writes = read("broker_commit_batch_size_count"), read("broker_commit_batch_size_sum")
    await asyncio.gather(*(store.add(pending(), UNLIMITED) for _ in range(40)))
    assert read("broker_commit_batch_size_sum") == writes + 40
    # The first may go alone; the others gather while it commits.
    assert 1 <= read("broker_commit_batch_size_count") - batches < 40
