"""Interleaved slots: in each round every server is asked for a second, in an order drawn anew.

Whatever else the machine does in a round falls on all of them, so that ratios are taken within rounds.
"""

import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from statistics import median, quantiles

from tests.bench.generator import Answers, load
from tests.bench.servers import Running

CONNECTIONS = 64
NODE_WARM_UP = 10_000
WARM_UP = 2_000
PACED_CONNECTIONS = 8
"""Over how many connections a given rate is asked for. The generator's connections ask in step, so that a request
waits for as many others; over 64 of them half load would be full load in bursts."""
EACH = 4
"""How often a connection asks in a slot at half load, at least."""
REST_SECONDS = 0.2
RESTING = 0.1
"""Which share of the core a server may take at rest; the system counts processor time in hundredths of a second."""
MOST_REST_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Slot:
    """Hold the answers of one slot and the processor time that each of them took, in microseconds."""

    answers: Answers
    cpu_microseconds: float


@dataclass(frozen=True, slots=True)
class Spread:
    """Hold the quartiles of what the rounds gave."""

    low: float
    middle: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the quartiles of `values`."""
        if len(values) < 2:
            return cls(values[0], values[0], values[0])
        low, middle, high = quantiles(values, n=4, method="inclusive")
        return cls(low, middle, high)


Slots = Mapping[str, list[Slot]]
"""The slots of each server by its name, one of each round."""


def warm_up(server: Running, row: str, *, quick: bool) -> None:
    """Ask often enough that code is compiled and caches are filled."""
    count = NODE_WARM_UP if server.contender.is_node else WARM_UP
    load(server.base, server.contender.requests[row], connections=16, count=count // 20 if quick else count)


def slot(server: Running, row: str, *, seconds: float, connections: int, rate: float | None = None) -> Slot:
    """Measure one server for so long."""
    before = server.cpu_seconds()
    answers = load(server.base, server.contender.requests[row], connections=connections, seconds=seconds, rate=rate)
    spent = server.cpu_seconds() - before
    return Slot(answers, spent / max(1, answers.count) * 1e6)


def interleave(
    servers: Sequence[Running],
    row: str,
    *,
    rounds: int,
    seconds: float,
    connections: int = CONNECTIONS,
    rate_of: Callable[[Running], float] | None = None,
) -> Slots:
    """Measure the servers in `rounds` rounds; with `rate_of`, at so many requests per second."""
    chance = random.Random(rounds)  # noqa: S311
    slots: dict[str, list[Slot]] = {server.contender.name: [] for server in servers}
    for _ in range(rounds):
        for server in chance.sample(servers, len(servers)):
            _let_rest(servers)
            rate = rate_of(server) if rate_of else None
            used = connections if rate is None else max(1, min(PACED_CONNECTIONS, int(rate * seconds / EACH)))
            slots[server.contender.name].append(slot(server, row, seconds=seconds, connections=used, rate=rate))
    return slots


def _let_rest(servers: Sequence[Running]) -> None:
    """Wait until no server works on earlier requests, because the next one would share its core with that."""
    deadline = time.monotonic() + MOST_REST_SECONDS
    busy: list[str] = []
    before = [server.cpu_seconds() for server in servers]
    while time.monotonic() < deadline:
        time.sleep(REST_SECONDS)
        after = [server.cpu_seconds() for server in servers]
        busy = [
            server.contender.name
            for server, spent, by_now in zip(servers, before, after, strict=True)
            if by_now - spent > RESTING * REST_SECONDS
        ]
        if not busy:
            return
        before = after
    print(f"{', '.join(busy)} did not rest for {MOST_REST_SECONDS} s", file=sys.stderr)


def ratios(ours: Sequence[Slot], theirs: Sequence[Slot], value: Callable[[Slot], float]) -> Spread:
    """Return ours by theirs, paired within rounds."""
    return Spread.of([value(mine) / (value(yours) or nan) for mine, yours in zip(ours, theirs, strict=True)])


def middle(slots: Sequence[Slot], value: Callable[[Slot], float]) -> float:
    """Return the median over the rounds."""
    return median(value(one) for one in slots)


def failures(slots: Sequence[Slot]) -> int:
    """Return how many requests were answered with something else than 2xx, or not at all."""
    return sum(one.answers.failures for one in slots)
