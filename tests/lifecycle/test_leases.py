"""Leases: their renewal, their end, and when another caller takes over."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from broker.domain.media import Media, State
from broker.errors import DatabaseUnavailable, StorageRefused
from broker.lifecycle import leases
from broker.lifecycle.leases import LEASE, LeaseLost, Leases
from broker.store import Store
from tests.support.samples import pending

pytestmark = pytest.mark.timeout(20)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
AWAY = DatabaseUnavailable()
REFUSED = StorageRefused(operation="copy_object", code="AccessDenied")
SECONDS = LEASE.total_seconds()


class Rows(Store):
    """A store of one row. It notes each amendment; `is_ours` is false once another caller changed the row."""

    def __init__(self) -> None:
        self.amended: list[dict[str, Any]] = []
        self.is_ours = True
        self.error: Exception | None = None
        self.let_go = asyncio.Event()
        self.let_go.set()

    async def amend(self, media: Media, **changes: Any) -> Media | None:
        self.amended.append(changes)
        await self.let_go.wait()
        if self.error is not None:
            raise self.error
        return media._replace(version=media.version + 1, **changes) if self.is_ours else None


class Time:
    """A wall clock and a stopwatch that a test moves."""

    def __init__(self) -> None:
        self.wall, self.seconds = NOW, 0.0

    def leases(self) -> Leases:
        return Leases(lambda: self.wall, lambda: self.seconds)


@pytest.fixture
def store() -> Rows:
    return Rows()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def media() -> Media:
    return pending(state=State.PROMOTING, due_at=NOW + LEASE)


def test_a_lease_ends_two_minutes_after_it_is_taken(time: Time) -> None:
    assert time.leases().end() == NOW + timedelta(minutes=2)


@pytest.mark.parametrize(
    ("due_in", "expired"), [(None, True), (-1, True), (0, True), (1, False)], ids=["never due", "past", "now", "later"]
)
def test_a_lease_has_expired_once_its_row_is_due(time: Time, media: Media, due_in: int | None, expired: bool) -> None:
    due_at = None if due_in is None else NOW + timedelta(seconds=due_in)
    assert time.leases().has_expired(media._replace(due_at=due_at)) is expired


@pytest.mark.parametrize(("seconds", "expired"), [(SECONDS - 1, False), (SECONDS, True)])
def test_a_row_that_is_watched_unchanged_for_a_lease_has_expired(
    time: Time, media: Media, seconds: float, expired: bool
) -> None:
    own = time.leases()
    time.seconds = 1000
    assert not own.has_expired(media)
    time.seconds += seconds
    assert own.has_expired(media) is expired


def test_the_rows_that_were_watched_last_are_remembered(
    time: Time, media: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "MAX_WATCHED", 2)
    own = time.leases()
    first, second, third = (pending(due_at=NOW + LEASE) for _ in range(3))
    for each in (first, second, first._replace(version=1), third):  # the second is forgotten
        assert not own.has_expired(each)
    time.seconds += SECONDS
    assert [own.has_expired(each) for each in (first._replace(version=1), third, second)] == [True, True, False]


async def until_amended(store: Rows, times: int) -> None:
    while len(store.amended) < times:
        await asyncio.sleep(0.001)


async def test_a_held_lease_is_renewed_until_the_body_ends(
    time: Time, store: Rows, media: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.005)
    async with time.leases().renewed(store, media) as lease:
        await until_amended(store, 2)
        assert lease.held().version >= 1
    renewals = len(store.amended)
    assert store.amended == [{"due_at": NOW + LEASE}] * renewals
    assert lease.media.version == renewals
    await asyncio.sleep(0.03)
    assert len(store.amended) == renewals


async def test_a_renewal_outlasts_an_outage_of_the_database(
    time: Time, store: Rows, media: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.005)
    store.error = AWAY
    async with time.leases().renewed(store, media) as lease:
        await until_amended(store, 2)
        assert lease.held() == media
        store.error = None
        while lease.held().version == 0:
            await asyncio.sleep(0.001)


async def test_a_lost_lease_is_known_to_its_holder_and_renewed_no_more(
    time: Time, store: Rows, media: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.005)
    store.is_ours = False

    async def hold() -> None:
        async with time.leases().renewed(store, media) as lease:
            await until_amended(store, 1)
            await asyncio.sleep(0.03)
            lease.held()

    with pytest.raises(LeaseLost):
        await hold()
    assert store.amended == [{"due_at": NOW + LEASE}]


async def test_a_record_renews_the_lease_and_fails_once_it_is_lost(time: Time, store: Rows, media: Media) -> None:
    async def hold() -> None:
        async with time.leases().renewed(store, media) as lease:
            await lease.record(multipart_id="an-id")
            assert lease.held() == media._replace(version=1, due_at=NOW + LEASE, multipart_id="an-id")
            store.is_ours = False
            with pytest.raises(LeaseLost):
                await lease.record(multipart_id="another")
            await lease.record(multipart_id="a third")

    with pytest.raises(LeaseLost):
        await hold()
    assert [changes.get("multipart_id") for changes in store.amended] == ["an-id", "another"]


@pytest.mark.parametrize("error", [REFUSED, ZeroDivisionError(), asyncio.CancelledError()], ids=repr)
async def test_a_holder_that_fails_ends_its_lease(time: Time, store: Rows, media: Media, error: BaseException) -> None:
    async def fail() -> None:
        async with time.leases().renewed(store, media) as lease:
            await lease.record(attempt=2)
            raise error

    with pytest.raises(type(error)):
        await fail()
    assert store.amended == [{"attempt": 2, "due_at": NOW + LEASE}, {"due_at": NOW}]


async def test_a_holder_that_fails_during_an_outage_raises_its_own_error(time: Time, store: Rows, media: Media) -> None:
    store.error = AWAY
    with pytest.raises(StorageRefused):
        async with time.leases().renewed(store, media):
            raise REFUSED


async def ending_during_a_renewal(
    time: Time, store: Rows, media: Media, monkeypatch: pytest.MonkeyPatch
) -> "asyncio.Task[Media]":
    """Return a holder whose work has ended, while the database has not yet recorded a renewal."""
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.005)
    store.let_go.clear()

    async def hold() -> Media:
        async with time.leases().renewed(store, media) as lease:
            await until_amended(store, 1)
        return lease.media

    holding = asyncio.create_task(hold())
    await until_amended(store, 1)
    await asyncio.sleep(0.01)
    return holding


async def test_a_renewal_that_is_under_way_ends_before_the_lease_does(
    time: Time, store: Rows, media: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    holding = await ending_during_a_renewal(time, store, media, monkeypatch)
    assert not holding.done()
    store.let_go.set()
    assert (await holding).version == 1


async def test_a_holder_that_is_cancelled_while_its_renewal_is_under_way_renews_no_more(
    time: Time, store: Rows, media: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    holding = await ending_during_a_renewal(time, store, media, monkeypatch)
    holding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await holding
    store.let_go.set()
    await asyncio.sleep(0.03)
    assert len(store.amended) == 1
