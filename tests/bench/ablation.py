"""Measure what each shortcut of the broker saves: `python -m tests.bench.ablation [NAME …]`.

    python -m tests.bench.ablation [NAME …] [--starts 6] [--rounds 3] [--requests 1000] [--rows issue,playback]
                                   [--database sqlite|postgresql] [--python FILE]

Two servers run at a time: the broker as it is, and the broker with one shortcut replaced by the plain form
(`tests.bench.plain`). They are loaded in turns (A, B, B, A), and the processor time of a request, of all threads of the
process, is compared within each round, so that other work on the machine falls on both. One server may be some percent
slower than another of the same code, by chance, so both are started anew several times. A positive figure is what the
shortcut saves, in percent of the plain form's time: the median of the starts, and the quartiles. The last column is the
same of the resident memory at the end.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from . import machine
from .contenders import ours
from .generator import load
from .plain import VARIANTS
from .rounds import CONNECTIONS, Spread
from .servers import Contender, Running, serving
from .workplace import Workplace, workplace

AS_IT_IS = "as_it_is"
WARM_UP = 1_000


def main() -> None:
    """Measure the shortcuts that were named, or all, and print a row for each."""
    options = _options()
    machine.allow_many_connections()
    cores = machine.divide_cores()
    rows = options.rows.split(",")
    with workplace(with_postgresql=options.database == "postgresql", python=options.python) as place:
        whole = _variant(place, AS_IT_IS, options.database)
        print(f"{'shortcut':<18}" + "".join(f"{f'{column}, %':>24}" for column in (*rows, "memory")), flush=True)
        for name in options.names or [name for name in VARIANTS if name != AS_IT_IS]:
            plain = _variant(place, name, options.database)
            starts = list(_starts(place, cores, whole, plain, options))
            spreads = [Spread.of(column) for column in zip(*starts, strict=True)]
            shown = [f"{saved.middle:.1f} ({saved.low:.1f} to {saved.high:.1f})" for saved in spreads]
            print(f"{name:<18}" + "".join(f"{each:>24}" for each in shown), flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*VARIANTS, []], metavar="NAME")
    parser.add_argument("--starts", type=int, default=6, help="how often both servers are started anew")
    parser.add_argument("--rounds", type=int, default=3, help="how many rounds each start has")
    parser.add_argument("--requests", type=int, default=1_000, help="how many requests a slot has")
    parser.add_argument("--rows", default="issue,playback")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--python", type=lambda name: Path(name).absolute(), default=Path(sys.executable))
    return parser.parse_args()


def _variant(place: Workplace, name: str, kind: str) -> Contender:
    contender = ours(place, kind, name=name)
    interpreter, dash_m, _, *arguments = contender.command
    return replace(contender, command=(interpreter, dash_m, "tests.bench.plain", name, *arguments))


def _starts(
    place: Workplace, cores: machine.Cores, whole: Contender, plain: Contender, options: argparse.Namespace
) -> Iterator[list[float]]:
    """Start both servers again and again; yield the percents saved in each row, and of the memory."""
    rows = options.rows.split(",")
    for _ in range(options.starts):
        with (
            serving(whole, cores.server, place.directory) as base,
            serving(plain, cores.server, place.directory) as other,
        ):
            for server in (base, other):
                _warm_up(server, rows)
            saved = [median(_saved(base, other, row, options)) for row in rows]
            yield [*saved, _percent(base.rss_bytes(), other.rss_bytes())]


def _warm_up(server: Running, rows: Sequence[str]) -> None:
    for row in rows:
        load(server.base, server.contender.requests[row], connections=CONNECTIONS, count=WARM_UP)


def _saved(base: Running, other: Running, row: str, options: argparse.Namespace) -> Iterator[float]:
    for _ in range(options.rounds):
        first, plain_first, plain_second, second = (
            _microseconds(server, row, options.requests) for server in (base, other, other, base)
        )
        yield _percent(first + second, plain_first + plain_second)


def _percent(whole: float, plain: float) -> float:
    return 100 * (1 - whole / plain)


def _microseconds(server: Running, row: str, requests: int) -> float:
    """Return the processor time of one request, of all threads of the server's process."""
    clock = ~server.process.pid << 3 | 2  # CPUCLOCK_SCHED of a process, as clock_getcpuclockid(3) makes it
    before = time.clock_gettime(clock)
    answers = load(server.base, server.contender.requests[row], connections=CONNECTIONS, count=requests)
    assert answers.failures == 0, f"{server.contender.name}: {answers.failures} requests failed"
    return (time.clock_gettime(clock) - before) / answers.count * 1e6


if __name__ == "__main__":
    main()
