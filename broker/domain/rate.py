"""How often something may be asked for, as settings say it: `60/minute`."""

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
    """Allow an amount of requests within a window of so many seconds."""

    amount: int
    seconds: int


def rate_of(setting: str) -> Rate | None:
    """Return the rate that a setting means; None for `off`: there is no limit. Raises ValueError."""
    return None if setting == "off" else parse_rate(setting)


def parse_rate(notation: str) -> Rate:
    """Return the rate that a text such as `60/minute`, `60 per minute` or `100 per 2 hours` means. Raises ValueError.

    Source: the string notation of the library `limits`, for one limit. The library itself takes about a megabyte of
    memory, for storages of all kinds, and is loaded where one of them counts.
    """
    found = _NOTATION.fullmatch(notation)
    if found is not None:
        amount, multiple, unit = found.groups()
        rate = Rate(int(amount), int(multiple or 1) * _SECONDS[unit.lower()])
        if 0 not in rate:
            return rate
    raise ValueError("should be a number of requests in a time, neither of them none, such as 60/minute, or off")
