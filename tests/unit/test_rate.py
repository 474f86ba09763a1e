"""The notation of rates, compared with the library that counts in Redis."""

import limits
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.access.rate import Rate, parse_rate, rate_of

UNITS = ("second", "minute", "hour", "day", "month", "year")

WRITTEN = [
    ("60/minute", Rate(60, 60)),
    ("1/second", Rate(1, 1)),
    ("100 per 2 hours", Rate(100, 7200)),
    (" 5 / 3 DAYS ", Rate(5, 3 * 86_400)),
    ("7per2minutes", Rate(7, 120)),
]


@pytest.mark.parametrize(("notation", "rate"), WRITTEN)
def test_a_rate_is_a_number_of_requests_in_a_number_of_seconds(notation: str, rate: Rate) -> None:
    assert parse_rate(notation) == rate


@given(
    amount=st.integers(1, 10**9),
    between=st.sampled_from(["/", " / ", " per ", "per", " PER  "]),
    multiple=st.none() | st.integers(1, 1000),
    unit=st.sampled_from(UNITS),
    ending=st.sampled_from(["", "s", "S", " "]),
)
def test_the_library_parses_the_same_rate(
    amount: int, between: str, multiple: int | None, unit: str, ending: str
) -> None:
    notation = f"{amount}{between}{'' if multiple is None else multiple}{unit}{ending}"
    judged = limits.parse(notation)
    assert parse_rate(notation) == (judged.amount, judged.get_expiry())


@pytest.mark.parametrize(
    "notation",
    [
        "",
        "60",
        "minute",
        "off",
        "-1/minute",
        "1.5/minute",
        "1 0/minute",
        "60//minute",
        "60/minutess",
        "60/fortnight",
        "٦/minute",
        "60/ſecond",
        "60/mİnute",
        f"{'9' * 13}/minute",
        f"1/{'9' * 5}minutes",
        "0/minute",
        "60/0minutes",
        "1/second; 5/minute",  # the library's `parse` ignores the second rate
    ],
)
def test_anything_else_is_refused(notation: str) -> None:
    with pytest.raises(ValueError, match="should "):
        parse_rate(notation)


def test_off_is_no_limit() -> None:
    assert rate_of("off") is None
    assert rate_of("60/minute") == Rate(60, 60)
    with pytest.raises(ValueError, match=r"^should be a number of requests in a time, both"):
        rate_of("often")
