"""The life of a media: the table of transitions, ids, and the comparison of objects."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.ids import created_on, new_id
from broker.domain.media import GONE, INITIAL, TRANSITIONS, Arrived, Event, State, next_state
from broker.errors import IllegalTransition

LEGAL = {
    ("pending", "HEAD matches"): "promoting",
    ("pending", "HEAD differs"): "rejected",
    ("pending", "policy expired, nothing there"): "expired",
    ("pending", "delete"): "deleting",
    ("expired", "HEAD matches"): "promoting",
    ("promoting", "copied and compared"): "ready",
    ("promoting", "staging was overwritten"): "pending",
    ("promoting", "overwritten too often"): "rejected",
    ("promoting", "HEAD differs"): "rejected",
    ("promoting", "delete"): "deleting",
    ("ready", "delete"): "deleting",
    ("rejected", "delete"): "deleting",
    ("expired", "delete"): "deleting",
    ("deleting", "objects gone, policy expired"): "deleted",
}
ILLEGAL = [pair for pair in product(State, Event) if pair not in LEGAL]


@pytest.mark.parametrize(("state", "event"), LEGAL)
def test_an_event_of_the_table_leads_where_the_table_says(state: str, event: str) -> None:
    assert next_state(State(state), Event(event)) is State(LEGAL[state, event])


@pytest.mark.parametrize(("state", "event"), ILLEGAL)
def test_any_other_event_raises_and_nothing_happens(state: State, event: Event) -> None:
    with pytest.raises(IllegalTransition, match=f"Event {event} is not allowed in state {state}"):
        next_state(state, event)


def test_every_pair_is_either_legal_or_not() -> None:
    assert len(LEGAL) + len(ILLEGAL) == len(State) * len(Event)
    assert len(TRANSITIONS) == len(LEGAL)


def test_every_state_can_be_reached_and_only_deleted_is_an_end() -> None:
    reached, ahead = {INITIAL}, [INITIAL]
    while ahead:
        state = ahead.pop()
        found = {row.target for row in TRANSITIONS if row.source is state} - reached
        reached |= found
        ahead += found

    assert reached == set(State)
    assert set(State) - {row.source for row in TRANSITIONS} == {State.DELETED}


def test_a_media_that_is_being_deleted_never_comes_back() -> None:
    assert {row.target for row in TRANSITIONS if row.source in GONE} <= GONE
    assert {row.event for row in TRANSITIONS if row.target in GONE and row.source not in GONE} == {Event.DELETE}


instants = st.integers(0, 2**48 - 1).filter(lambda ms: ms < 253_402_300_800_000)
"""Milliseconds that both a UUIDv7 and a datetime can hold."""


def instant(milliseconds: int) -> datetime:
    seconds, rest = divmod(milliseconds, 1000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest * 1000)


@given(instants)
def test_an_id_holds_its_instant_to_the_millisecond(milliseconds: int) -> None:
    media_id = new_id(instant(milliseconds))

    assert media_id.int >> 80 == milliseconds
    assert created_on(media_id) == instant(milliseconds)


@given(instants)
def test_an_id_is_a_uuid_of_version_7(milliseconds: int) -> None:
    media_id = new_id(instant(milliseconds))

    assert media_id.version == 7
    assert media_id.variant == "specified in RFC 4122"


@given(st.lists(instants, min_size=2, max_size=20, unique=True).map(sorted))
def test_ids_sort_as_their_instants(moments: list[int]) -> None:
    ids = [new_id(instant(milliseconds)) for milliseconds in moments]

    assert all(str(earlier) < str(later) and earlier < later for earlier, later in pairwise(ids))


def test_ids_of_one_instant_share_nothing_else() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    ids = [new_id(now) for _ in range(2000)]

    assert len(set(ids)) == 2000
    ones = [sum(media_id.int >> bit & 1 for media_id in ids) for bit in range(80)]
    fixed = {62, 63, 76, 77, 78, 79}
    assert all(800 < count < 1200 for bit, count in enumerate(ones) if bit not in fixed)


SAME = [
    # reason, one object as S3 describes it, another, and whether they are the same
    ("all is equal", Arrived(1, "e", "video/mp4"), Arrived(1, "e", "video/mp4"), True),
    ("the size differs", Arrived(1, "e", "video/mp4"), Arrived(2, "e", "video/mp4"), False),
    ("the type differs", Arrived(1, "e", "video/mp4"), Arrived(1, "e", "video/webm"), False),
    ("the ETag differs", Arrived(1, "e", "video/mp4"), Arrived(1, "f", "video/mp4"), False),
    ("the checksum differs", Arrived(1, "e", "t", "SHA256:a"), Arrived(1, "e", "t", "SHA256:b"), False),
    ("only one has a checksum", Arrived(1, "e", "t", "SHA256:a"), Arrived(1, "e", "t"), True),
    ("checksums of two algorithms", Arrived(1, "e", "t", "SHA256:a"), Arrived(1, "e", "t", "CRC32:b"), True),
    ("opaque ETags, one checksum", Arrived(1, "e", "t", "SHA256:a", False), Arrived(1, "f", "t", "SHA256:a"), True),
    ("opaque ETags, no checksum", Arrived(1, "e", "t", None, False), Arrived(1, "f", "t", None, False), False),
    ("equal opaque ETags prove nothing", Arrived(1, "e", "t", None, False), Arrived(1, "e", "t", None, False), False),
]


@pytest.mark.parametrize(("one", "other", "same"), [row[1:] for row in SAME], ids=[row[0] for row in SAME])
def test_two_objects_are_compared_as_far_as_s3_can_tell(one: Arrived, other: Arrived, same: bool) -> None:
    assert one.same_object(other) is same
    assert other.same_object(one) is same


def test_ids_drawn_by_threads_all_differ() -> None:
    with ThreadPoolExecutor(8) as threads:
        drawn = list(threads.map(lambda _: [new_id(instant(0)) for _ in range(2000)], range(8)))
    assert len({one for ids in drawn for one in ids}) == 16_000
