"""The ids of media: UUIDv7s, bit by bit."""

import os
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from broker.domain.ids import created_on, new_id

MILLISECOND = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("random", "expected"),
    [
        (bytes(10), "019b7ca9-8f2e-7000-8000-000000000000"),
        (b"\xff" * 10, "019b7ca9-8f2e-7fff-bfff-ffffffffffff"),
        (bytes.fromhex("00112233445566778899"), "019b7ca9-8f2e-7889-8004-488cd115599d"),
    ],
)
def test_an_id_holds_the_millisecond_the_version_and_74_random_bits(
    monkeypatch: pytest.MonkeyPatch, random: bytes, expected: str
) -> None:
    monkeypatch.setattr(os, "urandom", lambda size: (random * 2)[:size])
    made = new_id(MILLISECOND + timedelta(microseconds=999))
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert created_on(made) == MILLISECOND
    assert made == UUID(expected)


def test_ids_of_one_millisecond_differ() -> None:
    assert len({new_id(MILLISECOND) for _ in range(1000)}) == 1000
