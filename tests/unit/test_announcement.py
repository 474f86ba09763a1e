"""Announcements: which states are told to whom, and the body that receivers verify."""

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from broker.domain.announcement import ON_READY, announcements
from broker.domain.media import State
from tests.support.samples import pending

NOW = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
MEDIA = pending(
    "jörg",
    id=UUID("0190a1b2-c3d4-7e5f-8a6b-7c8d9eafb07a"),
    created_at=NOW - timedelta(hours=1),
    state=State.READY,
    version=4,
    size=7,
    filename="a film.mp4",
    duration_seconds=12.5,
    metadata={"lesson": "7"},
    ready_at=NOW,
    measured_seconds=12.4,
    codec="h264",
    width=320,
    height=240,
)
TARGETS = ("https://a.example/", ON_READY, "https://b.example/")
TOLD = TARGETS[0], TARGETS[2]


@pytest.mark.parametrize(
    ("state", "targets"),
    [
        (State.READY, TARGETS),
        (State.REJECTED, TOLD),
        (State.EXPIRED, TOLD),
        (State.DELETED, TOLD),
        (State.PENDING, ()),
        (State.PROMOTING, ()),
        (State.DELETING, ()),
    ],
)
def test_each_target_is_told_of_its_states(state: State, targets: tuple[str, ...]) -> None:
    assert tuple(each.target for each in announcements(MEDIA._replace(state=state), TARGETS, NOW)) == targets


def test_an_announcement_is_due_at_once_and_given_up_after_three_days() -> None:
    (first, *_) = announcements(MEDIA, TARGETS, NOW)
    assert (first.media_id, first.version, first.state, first.at) == (MEDIA.id, 4, State.READY, NOW)
    assert (first.next_at, first.give_up_at) == (NOW, NOW + timedelta(days=3))
    assert (first.attempts, first.failure) == (0, None)
    assert (first.message_id, first.type) == ("msg_0190a1b2c3d47e5f8a6b7c8d9eafb07a_ready", "media.ready")


def test_the_body_holds_the_facts_of_that_time() -> None:
    body = announcements(MEDIA, TARGETS, NOW)[0].body()
    assert ("jörg" in body, ": " in body, ", " in body) == (True, False, False)
    assert json.loads(body) == {
        "type": "media.ready",
        "timestamp": "2026-01-02T03:04:05.678000+00:00",
        "data": {
            "media_id": "0190a1b2-c3d4-7e5f-8a6b-7c8d9eafb07a",
            "status": "ready",
            "owner": "jörg",
            "content_type": "video/mp4",
            "size": 7,
            "filename": "a film.mp4",
            "duration_seconds": 12.5,
            "metadata": {"lesson": "7"},
            "created_at": "2026-01-02T02:04:05.678000+00:00",
            "ready_at": "2026-01-02T03:04:05.678000+00:00",
            "differences": None,
            "video": {"seconds": 12.4, "codec": "h264", "width": 320, "height": 240},
        },
    }


def test_the_body_of_a_media_without_a_probe_has_no_video() -> None:
    rejected = MEDIA._replace(state=State.REJECTED, ready_at=None, codec=None, differences="the size is 0 bytes")
    data = json.loads(announcements(rejected, TARGETS, NOW)[0].body())["data"]
    assert (data["video"], data["ready_at"], data["differences"]) == (None, None, "the size is 0 bytes")
