"""The comparison: one row of the interface, ours beside the peers, at full load and at half load."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from tests.bench.contenders import OURS
from tests.bench.generator import load
from tests.bench.rounds import Slot, Slots, Spread, failures, interleave, middle, ratios, warm_up
from tests.bench.servers import Contender, Running, serving
from tests.bench.workplace import Workplace

MEMORY_STEPS = (50_000, 200_000)
SLOW_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Line:
    """Hold what one server reached in one row; times in milliseconds, `cpu_microseconds` per request.

    `ours_by_it`: by the name of each of ours, how many times its answers per second are those of this server.
    `p99_half_by_it`: the same of the 99th percentile at half load. Half load is half of its own full load.
    """

    name: str
    rate: float
    ours_by_it: dict[str, Spread]
    p50: float
    p99: float
    p50_half: float
    p99_half: float
    p99_half_by_it: dict[str, Spread]
    p99_by_it: dict[str, Spread]
    cpu_microseconds: float
    failures: int


@dataclass(frozen=True, slots=True)
class Footprint:
    """Hold the seconds from the start to the first 2xx, and resident MiB by how many requests were answered."""

    name: str
    cold_start: float
    mebibytes: dict[int, float]


def compare(servers: Sequence[Running], row: str, *, rounds: int, seconds: float, quick: bool) -> list[Line]:
    """Measure the servers that answer this row; the first line is the first server's."""
    servers = [server for server in servers if row in server.contender.requests]
    for server in servers:
        warm_up(server, row, quick=quick)
    full = interleave(servers, row, rounds=rounds, seconds=seconds)
    halves = {name: max(1.0, middle(slots, _rate) / 2) for name, slots in full.items()}
    half = interleave(
        servers, row, rounds=rounds, seconds=seconds, rate_of=lambda server: halves[server.contender.name]
    )
    return [_line(server.contender.name, full, half) for server in servers]


def _line(name: str, full: Slots, half: Slots) -> Line:
    ours = [one for one in full if one.startswith(OURS)]
    return Line(
        name=name,
        rate=middle(full[name], _rate),
        ours_by_it={one: ratios(full[one], full[name], _rate) for one in ours},
        p50=middle(full[name], _p50),
        p99=middle(full[name], _p99),
        p50_half=middle(half[name], _p50),
        p99_half=middle(half[name], _p99),
        p99_half_by_it={one: ratios(half[one], half[name], _p99) for one in ours},
        p99_by_it={one: ratios(full[one], full[name], _p99) for one in ours},
        cpu_microseconds=middle(full[name], lambda slot: slot.cpu_microseconds),
        failures=failures(full[name]) + failures(half[name]),
    )


def _rate(slot: Slot) -> float:
    return slot.answers.rate


def _p50(slot: Slot) -> float:
    return slot.answers.percentile(50)


def _p99(slot: Slot) -> float:
    return slot.answers.percentile(99)


def footprint(
    contender: Contender, place: Workplace, cores: frozenset[int], *, steps: Sequence[int], starts: int
) -> Footprint:
    """Start a server several times, and ask the first one for uploads until each step is reached.

    How far a heap grows is chance as well: the memory after the first step is the median of three servers, unless
    that step takes longer than SLOW_SECONDS.
    """
    started: list[float] = []
    mebibytes: dict[int, list[float]] = {step: [] for step in steps}
    again: Sequence[int] = ()
    for number in range(starts):
        with serving(contender, cores, place.directory) as server:
            started.append(server.started_in)
            asked = 0
            for step in again if number else steps:
                took = load(server.base, contender.requests["issue"], connections=64, count=step - asked).seconds
                if not asked:
                    again = steps[:1] if number < 2 and took < SLOW_SECONDS else ()
                asked = step
                mebibytes[step].append(server.rss_bytes() / 2**20)
    return Footprint(contender.name, median(started), {step: median(seen) for step, seen in mebibytes.items()})
