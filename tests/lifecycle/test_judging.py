"""The judgement of parts by itself: what is compared, recorded, composed and handed over, in memory."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from broker.aws.deletion import Deletion
from broker.clock import utc_now
from broker.domain.ids import new_id
from broker.domain.keys import current_key, final_prefix, part_key, parts_prefix
from broker.domain.media import Arrived, Event, Media, State
from broker.domain.parts import StoredPart, composed_etag, list_digest
from broker.errors import DatabaseUnavailable, NothingUploaded, PartsMissing, PromotionRunning, StorageRefused
from broker.lifecycle.leases import LEASE, Leases
from broker.lifecycle.resumable import settlement
from broker.lifecycle.resumable.settlement import Record, Resumable
from tests.lifecycle.in_memory import PART, Memory, Rows, Uploads, composed, etag, parts, promoting

pytestmark = pytest.mark.timeout(10)


class Verdicts:
    """The ends of a composition: each is noted with its arguments, and returns its media."""

    def __init__(self) -> None:
        self.ends: list[tuple[Any, ...]] = []
        self.reason = ""
        self.facts: dict[str, object] = {"codec": "h264"}

    async def reject(self, media: Media, event: Event, reason: str, **facts: object) -> Media:
        self.ends.append(("reject", event, reason, facts))
        return media

    async def judge_again(self, media: Media) -> Media:
        self.ends.append(("judge again",))
        return media

    async def become_ready(self, media: Media, **facts: object) -> Media:
        self.ends.append(("become ready", facts))
        return media

    async def lost(self, media: Media) -> Media:
        self.ends.append(("lost",))
        return media

    async def inspect(self, media: Media, key: str, arrived: Arrived, record: Record) -> tuple[str, dict[str, object]]:
        self.ends.append(("inspect", key, arrived))
        await record(judgements=7)
        return self.reason, dict(self.facts)


class Table(Rows):
    """A store of one row that also changes its state; `now` is the row that another caller left."""

    now: Media | None = None

    async def change(self, media: Media, event: Event, **changes: Any) -> Media | None:
        self.calls.append(("change", event, changes))
        if not self.is_ours:
            return None
        return media._replace(state=State.PROMOTING, version=media.version + 1, **changes)

    async def get(self, media_id: Any, owner: str | None) -> Media:
        self.calls.append(("get", media_id, owner))
        assert self.now is not None
        return self.now


class Judging:
    """One media in parts over a bucket in memory."""

    def __init__(self, count: int = 3, **fields: Any) -> None:
        judged = {"state": State.PENDING, "parts_digest": None, "attempt": 4, "judgements": 1}
        self.media = promoting(count, **(judged | fields))
        self.bucket = Memory()
        self.uploads: Uploads = self.bucket.uploads
        self.uploads.stored = parts(count)
        self.uploads.composed = composed(self.media)
        self.store = Table(self.bucket.calls)
        self.verdicts = Verdicts()
        self.resumable = Resumable(self.store, self.bucket, Leases(utc_now, lambda: 0.0), self.verdicts)

    async def judge(self, arrived: int | None = None) -> Media:
        return await self.resumable.judge(self.media, arrived)


@pytest.fixture
async def own() -> AsyncIterator[Judging]:
    judging = Judging()
    yield judging
    await judging.resumable.close()


def counted() -> dict[str, float]:
    """Return how many compositions the metrics count by outcome, how many they time, and how many are running."""
    outcomes = ("composed", "overwritten", "lost", "failed")
    values = {
        name: REGISTRY.get_sample_value("broker_composition_outcomes_total", {"outcome": name}) for name in outcomes
    }
    values["timed"] = REGISTRY.get_sample_value("broker_composition_seconds_count")
    values["running"] = REGISTRY.get_sample_value("broker_compositions")
    return {name: value or 0 for name, value in values.items()}


def since(before: dict[str, float]) -> dict[str, float]:
    return {name: value - before[name] for name, value in counted().items() if value != before[name]}


async def test_a_whole_upload_is_recorded_composed_and_becomes_ready(own: Judging) -> None:
    before, began = counted(), utc_now()
    ready = await own.judge()
    (change,) = [call for call in own.bucket.calls if call[0] == "change"]
    due_at = change[2].pop("due_at")
    assert began + LEASE <= due_at <= utc_now() + LEASE
    assert change == (
        "change",
        Event.MATCH,
        {
            "size": 3 * PART,
            "etag": composed_etag([etag(1), etag(2), etag(3)]),
            "etag_is_md5": False,
            "parts_digest": list_digest(parts(3)),
            "multipart_id": None,
            "judgements": 2,
            "attempt": 5,
        },
    )
    assert own.bucket.calls[0] == ("staged", parts_prefix(own.media.id))
    whole = composed(own.media)
    facts = {"codec": "h264", "etag": whole.etag, "etag_is_md5": True, "checksum": whole.checksum}
    assert own.verdicts.ends == [("inspect", current_key(ready), whole), ("become ready", facts)]
    assert ready.judgements == 7  # as the inspection recorded it
    assert since(before) == {"composed": 1, "timed": 1}
    assert own.bucket.names().count("staged") == 1


async def test_parts_beyond_the_last_one_are_ignored(own: Judging) -> None:
    own.uploads.stored = [*parts(3), StoredPart(4, 1, "more")]
    await own.judge()
    assert own.verdicts.ends[-1][0] == "become ready"


DIFFERENT = [*parts(2), StoredPart(3, PART + 1, etag(3))]


async def test_a_part_of_another_size_rejects_a_pending_media(own: Judging) -> None:
    own.uploads.stored = DIFFERENT
    assert await own.judge() is own.media
    assert own.verdicts.ends == [("reject", Event.DIFFER, "part 3 has 6 bytes, not 5", {})]


async def test_a_part_of_another_size_is_no_upload_of_an_expired_media() -> None:
    own = Judging(state=State.EXPIRED)
    own.uploads.stored = DIFFERENT
    with pytest.raises(NothingUploaded):
        await own.judge()
    assert own.verdicts.ends == []


async def test_missing_parts_are_named_and_nothing_is_recorded(own: Judging) -> None:
    own.uploads.stored = parts(1)
    with pytest.raises(PartsMissing) as missing:
        await own.judge()
    assert missing.value.facts == {"missing": [2, 3], "missing_count": 2, "count": 3, "numbers": "2-3"}
    assert own.bucket.names() == ["staged"]


async def test_of_many_missing_parts_a_hundred_are_named() -> None:
    own = Judging(150)
    own.uploads.stored = []
    with pytest.raises(PartsMissing) as missing:
        await own.judge()
    assert missing.value.facts["missing"] == list(range(1, 101))
    assert missing.value.facts["missing_count"] == 150


async def test_a_part_that_was_missing_is_looked_for_first(own: Judging) -> None:
    async def asked(arrived: int | None) -> list[tuple[Any, ...]]:
        own.bucket.calls.clear()
        with pytest.raises(PartsMissing) as missing:
            await own.judge(arrived)
        if own.bucket.names() == ["head"]:
            assert missing.value.facts == {"missing": [3], "missing_count": 1, "count": 3, "numbers": "3"}
        return list(own.bucket.calls)

    own.uploads.stored = parts(1)
    listed = [("staged", parts_prefix(own.media.id))]
    looked = [("head", part_key(own.media.id, 3))]
    assert await asked(1) == listed
    assert [await asked(2), await asked(1)] == [looked, looked]
    assert [await asked(3), await asked(None)] == [listed, listed]
    own.uploads.stored = parts(2)
    own.bucket.objects[part_key(own.media.id, 3)] = composed(own.media)  # it arrived meanwhile
    assert await asked(2) == [*looked, *listed]
    own.uploads.stored = parts(3)
    await own.judge(3)
    own.uploads.stored = parts(1)
    assert await asked(1) == listed  # what was missing before is forgotten


async def test_the_missing_parts_of_the_latest_media_are_remembered(
    own: Judging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlement, "MAX_REMEMBERED", 2)
    first, second, third = (own.media._replace(id=new_id(utc_now())) for _ in range(3))
    own.uploads.stored = parts(1)

    async def asked(media: Media, arrived: int | None) -> str:
        own.bucket.calls.clear()
        with pytest.raises(PartsMissing):
            await own.resumable.judge(media, arrived)
        return own.bucket.names()[0]

    for media in (first, second, first, third):  # the second is forgotten
        assert await asked(media, None) == "staged"
    assert [await asked(media, 1) for media in (first, third, second)] == ["head", "head", "staged"]


async def test_a_lost_race_returns_the_row_as_it_is(own: Judging) -> None:
    own.store.is_ours = False
    own.store.now = own.media._replace(state=State.READY)
    assert await own.judge() == own.store.now
    assert own.bucket.calls[-1] == ("get", own.media.id, None)
    assert own.verdicts.ends == []


async def test_what_was_overwritten_is_judged_again(own: Judging) -> None:
    own.uploads.composed = None
    before = counted()
    await own.judge()
    assert own.verdicts.ends == [("judge again",)]
    assert since(before) == {"overwritten": 1, "timed": 1}


async def test_an_object_without_the_promised_checksum_is_rejected_without_a_probe() -> None:
    own = Judging(promised_crc64nvme="AAAAAAAAAAA=")
    await own.judge()
    ((end, event, reason, facts),) = own.verdicts.ends
    assert (end, event, reason) == ("reject", Event.DIFFER, "the CRC64NVME checksum is not the promised one")
    assert facts == {"etag": composed(own.media).etag, "etag_is_md5": True, "checksum": "CRC64NVME:A="}


async def test_what_the_probe_refuses_is_rejected_with_its_facts(own: Judging) -> None:
    own.verdicts.reason = "it is too long"
    assert (await own.judge()).judgements == 7
    end, event, reason, facts = own.verdicts.ends[-1]
    assert (end, event, reason, facts["codec"]) == ("reject", Event.DIFFER, "it is too long", "h264")


async def test_a_lost_lease_is_left_to_its_new_holder(own: Judging) -> None:
    own.uploads.let_go.clear()
    before = counted()
    judging = asyncio.create_task(own.judge())
    while not own.uploads.under_way:
        await asyncio.sleep(0)
    assert since(before) == {"running": 1}
    own.store.is_ours = False
    own.uploads.composed = None
    own.uploads.let_go.set()
    await judging
    assert own.verdicts.ends == [("lost",)]
    assert since(before) == {"lost": 1, "timed": 1}


REFUSED = StorageRefused(operation="upload_part_copy", code="AccessDenied")
DEFECT = ZeroDivisionError("a defect")
WARNED = {"event": "composition failed", "log_level": "warning", "reason": str(REFUSED)}
FAILED = {"event": "composition failed", "log_level": "error", "exc_info": DEFECT}


def failing(own: Judging, error: Exception) -> None:
    """Let each copy of a part fail."""

    def fail(number: int) -> Any:
        raise error

    own.uploads.on_copy = fail


@pytest.mark.parametrize(("error", "lines"), [(REFUSED, [WARNED]), (DEFECT, [])], ids=["refused", "a defect"])
async def test_a_failure_is_counted_and_ends_the_lease(
    own: Judging, error: Exception, lines: list[dict[str, Any]]
) -> None:
    """A defect is logged by the caller, which gets the error."""
    failing(own, error)
    before = counted()
    with capture_logs() as logs, pytest.raises(type(error)):
        await own.judge()
    assert since(before) == {"failed": 1, "timed": 1}
    assert logs == lines
    assert own.bucket.calls[-1] == ("record", {})  # the lease ends now


@pytest.mark.parametrize(("composed", "outcome"), [(True, "failed"), (False, "overwritten")])
async def test_a_composition_whose_verdict_fails_is_counted_once(
    own: Judging, monkeypatch: pytest.MonkeyPatch, composed: bool, outcome: str
) -> None:
    async def fail(*_: Any, **__: Any) -> Media:
        raise DatabaseUnavailable

    monkeypatch.setattr(own.verdicts, "become_ready" if composed else "judge_again", fail)
    if not composed:
        own.uploads.composed = None
    before = counted()
    with pytest.raises(DatabaseUnavailable):
        await own.judge()
    assert since(before) == {outcome: 1, "timed": 1}


@pytest.mark.parametrize(("error", "line"), [(REFUSED, WARNED), (DEFECT, FAILED)], ids=["refused", "a defect"])
async def test_a_failure_that_no_caller_awaits_is_logged(
    own: Judging, monkeypatch: pytest.MonkeyPatch, error: Exception, line: dict[str, Any]
) -> None:
    monkeypatch.setattr(settlement, "PATIENCE_SECONDS", 0.01)
    failing(own, error)
    own.uploads.let_go.clear()
    with capture_logs() as logs:
        with pytest.raises(PromotionRunning):
            await own.judge()
        own.uploads.let_go.set()
        while not logs:
            await asyncio.sleep(0.001)
    assert logs == [line]


async def test_a_caller_waits_for_a_while_and_the_composition_goes_on(
    own: Judging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlement, "PATIENCE_SECONDS", 0.01)
    own.uploads.let_go.clear()
    with pytest.raises(PromotionRunning):
        await own.judge()
    own.uploads.let_go.set()
    while not own.verdicts.ends or own.verdicts.ends[-1][0] != "become ready":
        await asyncio.sleep(0.001)


async def test_a_stop_cancels_compositions_and_ends_their_leases(own: Judging) -> None:
    own.uploads.let_go.clear()
    judging = asyncio.create_task(own.judge())
    while not own.uploads.under_way:
        await asyncio.sleep(0)
    before = counted()
    with capture_logs() as logs:
        await own.resumable.close()
        with pytest.raises(asyncio.CancelledError):
            await judging
    assert own.bucket.calls[-1] == ("record", {})
    assert (own.uploads.under_way, logs) == (0, [])
    assert since(before) == {"running": -1, "timed": 1}


async def test_a_few_compositions_run_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settlement, "MAX_COMPOSITIONS", 2)
    own = Judging()
    own.uploads.let_go.clear()
    before = counted()
    running = [asyncio.create_task(own.judge()) for _ in range(4)]
    await asyncio.sleep(0.01)
    assert since(before) == {"running": 2}
    own.uploads.let_go.set()
    await asyncio.gather(*running)
    assert since(before) == {"composed": 4, "timed": 4}


class Purged(Deletion):
    """A deletion below a prefix that notes its arguments."""

    def __init__(self, calls: list[tuple[Any, ...]], *, nothing_left: bool) -> None:
        self.calls, self.nothing_left = calls, nothing_left

    async def purge_below(self, prefix: str, key: str) -> bool:
        self.calls.append(("purge below", prefix, key))
        return self.nothing_left


class Aborting(Uploads):
    """Multipart uploads of which some are left."""

    none_left = True

    async def abort_all(self, prefix: str) -> bool:
        self.calls.append(("abort all", prefix))
        return self.none_left


@pytest.mark.parametrize("none_left", [True, False])
@pytest.mark.parametrize("nothing_left", [True, False])
async def test_a_purge_aborts_before_it_removes_the_parts(own: Judging, none_left: bool, nothing_left: bool) -> None:
    own.bucket.multipart = aborting = Aborting(own.bucket.calls, {})
    aborting.none_left = none_left
    own.bucket.deletion = Purged(own.bucket.calls, nothing_left=nothing_left)
    assert await own.resumable.purge(own.media) is (none_left and nothing_left)
    assert own.bucket.calls == [
        ("abort all", final_prefix(own.media.id)),
        ("purge below", parts_prefix(own.media.id), part_key(own.media.id, 1)),
    ]
