"""Usage of owners and refusals by quotas."""

from dataclasses import fields
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.access.quota import Quota, Usage, footprint, total
from broker.domain.ids import new_id
from broker.domain.media import Media, State
from broker.errors import QuotaExceeded

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MEDIA = Media(
    id=new_id(NOW), owner="ada", content_type="video/mp4", max_size=100, created_at=NOW, policy_expires_at=NOW
)

FOOTPRINTS = [
    ("of an unknown size", MEDIA, Usage(pending_count=1, promised_bytes=100, media_count=1)),
    ("of a known size", MEDIA._replace(promised_size=7), Usage(pending_count=1, promised_bytes=7, media_count=1)),
    ("promoting", MEDIA._replace(state=State.PROMOTING, size=7), Usage(1, 100, 0, 1)),
    ("ready", MEDIA._replace(state=State.READY, size=7), Usage(stored_bytes=7, media_count=1)),
    ("rejected", MEDIA._replace(state=State.REJECTED, size=7), Usage()),
    ("expired", MEDIA._replace(state=State.EXPIRED), Usage()),
    ("rejected, with an open policy", MEDIA._replace(state=State.REJECTED, still_promised=True), Usage(1, 100, 0, 1)),
    ("deleting", MEDIA._replace(state=State.DELETING, size=7), Usage()),
    ("deleted", MEDIA._replace(state=State.DELETED, size=7), Usage()),
]


@pytest.mark.parametrize(("media", "usage"), [row[1:] for row in FOOTPRINTS], ids=[row[0] for row in FOOTPRINTS])
def test_the_usage_of_a_media_follows_from_its_state(media: Media, usage: Usage) -> None:
    assert footprint(media) == usage


CHECKS = [
    # limits, usage, request, and the quota that refuses it
    ("no limit", Quota(), Usage(9, 9, 9, 9), Usage(9, 9, 9, 9), None),
    ("the last place", Quota(pending_count=3), Usage(pending_count=2), Usage(pending_count=1), None),
    ("one too many", Quota(pending_count=3), Usage(pending_count=3), Usage(pending_count=1), "pending_count"),
    ("the last promised byte", Quota(promised_bytes=10), Usage(promised_bytes=4), Usage(promised_bytes=6), None),
    ("a byte too many", Quota(promised_bytes=10), Usage(promised_bytes=5), Usage(promised_bytes=6), "promised_bytes"),
    ("what is promised is stored next", Quota(stored_bytes=10), Usage(0, 3, 3), Usage(0, 4), None),
    ("stored and promised together", Quota(stored_bytes=10), Usage(0, 3, 4), Usage(0, 4), "stored_bytes"),
    ("one media too many", Quota(media_count=1), Usage(media_count=1), Usage(media_count=1), "media_count"),
    ("a limit of nothing", Quota(media_count=0), Usage(), Usage(media_count=1), "media_count"),
    ("the last place, over another limit", Quota(3, None, 5), Usage(2, 0, 9), Usage(pending_count=1), None),
    ("nothing asked, over the limit already", Quota(media_count=1), Usage(media_count=5), Usage(), None),
]


@pytest.mark.parametrize(
    ("quota", "used", "asked", "refused_by"), [row[1:] for row in CHECKS], ids=[row[0] for row in CHECKS]
)
def test_a_quota_refuses_a_media_that_exceeds_it(
    quota: Quota, used: Usage, asked: Usage, refused_by: str | None
) -> None:
    if refused_by is None:
        assert quota.reserve(used, asked) == used + asked
        return
    with pytest.raises(QuotaExceeded) as refused:
        quota.reserve(used, asked)
    assert refused.value.facts["quota"] == refused_by
    assert refused.value.facts["limit"] == getattr(quota, refused_by)


def test_a_refusal_names_the_numbers() -> None:
    with pytest.raises(QuotaExceeded) as refused:
        Quota(stored_bytes=10).reserve(Usage(promised_bytes=3, stored_bytes=4), Usage(promised_bytes=5))
    assert str(refused.value) == (
        "Of the quota stored_bytes, 7 of 10 are in use, and the request needs 5; complete or delete uploads."
    )


usages = st.builds(Usage, *[st.integers(0, 2**50)] * len(Usage._fields))


@given(usages, usages)
def test_added_usage_can_be_subtracted(one: Usage, other: Usage) -> None:
    assert one + other - other == one
    assert one + Usage() == one


def test_the_total_is_the_sum_of_each_counter() -> None:
    assert total([Usage(1, 2, 3, 4)]) == Usage(1, 2, 3, 4)
    assert total(iter([Usage(1, 2, 3, 4), Usage(10, 20, 30, 40), Usage(0, 0, 0, 1)])) == Usage(11, 22, 33, 45)


def test_each_quota_limits_a_counter() -> None:
    assert {quota.name for quota in fields(Quota)} == set(Usage._fields)
