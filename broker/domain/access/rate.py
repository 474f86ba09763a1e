"""Rates of requests, in the notation of the settings: `60/minute`."""

import re
from types import MappingProxyType
from typing import NamedTuple

_SECONDS = MappingProxyType(
    {
        "second": 1,
        "minute": 60,
        "hour": 60 * 60,
        "day": 24 * 60 * 60,
        "month": 30 * 24 * 60 * 60,
        "year": 12 * 30 * 24 * 60 * 60,
    }
)
_NOTATION = re.compile(
    rf"\s* ([0-9]{{1,12}}) \s* (?:/|per) \s* ([0-9]{{0,4}}) \s* ({'|'.join(_SECONDS)})s? \s*",
    re.ASCII | re.IGNORECASE | re.VERBOSE,
)


class Rate(NamedTuple):
    """Allow `amount` requests in a window of `seconds`."""

    amount: int
    seconds: int


def rate_of(setting: str) -> Rate | None:
    """Return the rate of a setting, or None for `off`, which means no limit. Raises ValueError."""
    return None if setting == "off" else parse_rate(setting)


def parse_rate(notation: str) -> Rate:
    """Return the rate of a text such as `60/minute`, `60 per minute` or `100 per 2 hours`. Raises ValueError.

    Source: the string notation of the library `limits`, for one limit. The library itself is loaded only where one of
    its storages counts, because it takes about a megabyte of memory.
    """
    match = _NOTATION.fullmatch(notation)
    if match is not None:
        amount, multiple, unit = match.groups()
        rate = Rate(int(amount), int(multiple or 1) * _SECONDS[unit.lower()])
        if 0 not in rate:
            return rate
    raise ValueError("should be a number of requests in a time, both at least 1, such as 60/minute; or off")
