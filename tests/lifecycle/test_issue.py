"""The record of an issue: each promise and each instant of it, before a policy leaves."""

import hashlib
import json
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from broker.domain.ids import created_on
from broker.domain.keys import current_key
from broker.domain.media import Media, State
from broker.errors import MediaNotFound, NotReady, PermissionMissing
from broker.lifecycle.requests import FormUploaded, UploadRequest
from tests.support.in_parts import DAY, PART, page_of
from tests.support.world import GRACE_SECONDS, OVER, POLICY_SECONDS, VIDEO, MakeWorld, World, outcome_of

SHA256 = b64encode(hashlib.sha256(VIDEO).digest()).decode()
CRC = "AAAAAAAAAAA="


async def test_a_form_is_recorded_with_all_that_was_asked(world: World) -> None:
    world.clock.stop()
    now = world.clock()
    asked = UploadRequest(
        content_type="video/mp4;codecs=avc1",
        size=7,
        filename="a film.mp4",
        duration_seconds=1.5,
        checksum_sha256=SHA256,
        metadata={"lesson": "7"},
    )
    issued = await world.verbs.issue(asked, "anna", idempotency_key="once")
    ends = now + timedelta(seconds=POLICY_SECONDS)
    assert await world.store.get(issued.media.id, "anna") == Media(
        id=issued.media.id,
        owner="anna",
        content_type="video/mp4",
        max_size=1_000_000,
        created_at=now,
        policy_expires_at=ends,
        promised_size=7,
        promised_sha256=SHA256,
        filename="a film.mp4",
        duration_seconds=1.5,
        metadata={"lesson": "7"},
        idempotency_key="once",
        idempotency_digest=asked.digest(),
        due_at=ends + timedelta(seconds=GRACE_SECONDS),
    )
    assert created_on(issued.media.id) == now
    assert (issued.expires_in, issued.expires_at) == (POLICY_SECONDS, ends)
    assert issued.fields["x-amz-checksum-sha256"] == SHA256


@pytest.mark.parametrize(("size", "bounds"), [(7, [7, 7]), (None, [1, 1_000_000])])
async def test_a_known_size_makes_the_range_of_the_form_exact(
    world: World, size: int | None, bounds: list[int]
) -> None:
    issued = await world.issue(size=size)
    conditions = json.loads(b64decode(issued.fields["policy"]))["conditions"]
    assert [each for each in conditions if isinstance(each, list)] == [["content-length-range", *bounds]]


def returned_to(media_id: UUID) -> str:
    return f"https://broker.example/{media_id}"


@pytest.mark.parametrize(
    ("redirect_url", "uploaded_url", "is_named"),
    [("https://app.example/", returned_to, True), ("https://app.example/", None, False), (None, returned_to, False)],
)
async def test_a_plain_form_names_where_s3_sends_the_browser(
    world: World, redirect_url: str | None, uploaded_url: Callable[[UUID], str] | None, is_named: bool
) -> None:
    media = (await world.issue()).media._replace(redirect_url=redirect_url)
    now = world.clock()
    form = world.verbs._forms.signed(media, await world.bucket.credentials(now), now, uploaded_url)
    assert form.fields.get("success_action_redirect") == (returned_to(media.id) if is_named else None)


async def test_a_form_without_a_key_is_recorded_without_a_digest(world: World) -> None:
    world.clock.stop()
    world.clock.move(milliseconds=678)
    media = (await world.issue()).media
    assert (media.idempotency_key, media.idempotency_digest, media.metadata) == (None, None, {})
    assert media.created_at == world.clock() - timedelta(milliseconds=678)
    assert created_on(media.id) == world.clock()


async def test_parts_are_recorded_with_their_layout_and_the_end_of_the_upload(make_world: MakeWorld) -> None:
    world = make_world(max_size=100_000_000, part_size=PART)
    world.clock.stop()
    now = world.clock()
    issued = await world.issue(size=3 * PART, resumable=True, checksum_crc64nvme=CRC)
    ends = now + timedelta(seconds=2 * POLICY_SECONDS)
    assert await world.store.get(issued.media.id, "anna") == Media(
        id=issued.media.id,
        owner="anna",
        content_type="video/mp4",
        max_size=100_000_000,
        created_at=now,
        policy_expires_at=ends,
        promised_size=3 * PART,
        due_at=ends + timedelta(seconds=GRACE_SECONDS),
        part_size=PART,
        upload_expires_at=now + timedelta(seconds=DAY),
        promised_crc64nvme=CRC,
    )
    assert (issued.expires_in, page_of(issued).expires_in) == (POLICY_SECONDS, POLICY_SECONDS)


def counted() -> Counter[str]:
    """Return what the metrics of the verbs count."""
    names = ("broker_issues_total", "broker_playback_links_total", "broker_part_policies_total")
    counts = Counter({name: int(REGISTRY.get_sample_value(name) or 0) for name in names})
    outcomes = (sample for family in REGISTRY.collect() for sample in family.samples)
    for sample in outcomes:
        if sample.name == "broker_completes_total":
            counts[next(iter(sample.labels.values()))] = int(sample.value)
    return counts


async def test_each_verb_is_counted_once_by_its_outcome(make_world: MakeWorld) -> None:
    world = make_world(max_size=100_000_000, part_size=PART)
    before = counted()
    early = (await world.issue()).media
    assert await outcome_of(world.verbs.complete(early.id, "anna")) == "NothingUploaded"
    media = (await world.uploaded()).media
    await world.verbs.complete(media.id, "anna")
    await world.verbs.playback(media.id, "anna", expires_in=60, download=False)
    await world.issue(size=3 * PART, resumable=True)
    assert counted() - before == Counter(
        {
            "broker_issues_total": 3,
            "broker_playback_links_total": 2,
            "broker_part_policies_total": 3,
            "NothingUploaded": 1,
            "Ready": 1,
        }
    )


async def test_a_ready_media_is_not_deleted_unless_that_is_allowed(world: World) -> None:
    pending, ready = (await world.issue()).media, (await world.uploaded()).media
    await world.verbs.complete(ready.id, "anna")
    await world.verbs.delete(pending.id, "anna", unless_ready=True)
    with pytest.raises(PermissionMissing) as refused:
        await world.verbs.delete(ready.id, "anna", unless_ready=True)
    assert refused.value.facts == {"permission": "media:delete"}
    assert await world.ready_bytes(ready.id) == VIDEO
    await world.verbs.delete(ready.id, "anna")
    assert world.stored_keys(current_key(ready)) == []


async def test_a_link_of_a_media_that_is_not_ready_names_its_state(world: World) -> None:
    media = (await world.issue()).media
    facts, rows = [], []
    for _ in range(2):
        with pytest.raises(NotReady) as refused:
            await world.verbs.playback(media.id, "anna", expires_in=60, download=False)
        facts.append(refused.value.facts)
        rows.append(await world.store.get(media.id, "anna"))
        await world.sweep_after(**OVER)
    assert [fact["media_status"] for fact in facts] == ["pending", "expired"]
    assert ["retry_after" in fact for fact in facts] == [False, True]
    assert [fact["media"] for fact in facts] == rows


async def test_the_return_of_a_plain_form_completes_its_upload(world: World) -> None:
    redirect_url = "https://app.example/done"
    uploaded, unused, plain = [await world.uploaded(), await world.issue(), await world.uploaded()]
    for issued in (uploaded, unused):
        assert await world.store.amend(issued.media, redirect_url=redirect_url) is not None
    with capture_logs() as logs:
        states = {await world.verbs.complete_form(issued.media.id) for issued in (uploaded, unused)}
    assert states == {FormUploaded(redirect_url, State.READY), FormUploaded(redirect_url, State.PENDING)}
    reason = {"media_id": str(unused.media.id), "reason": "NothingUploaded"}
    assert logs == [{"event": "form is not complete", "log_level": "info"} | reason]
    with pytest.raises(MediaNotFound):
        await world.verbs.complete_form(plain.media.id)
