"""Measure what each shortcut of the broker saves: `python -m tests.bench.ablation [NAME …]`.

    python -m tests.bench.ablation [NAME …] [--rounds 12] [--requests 2000] [--database sqlite|postgresql]
                                   [--rows issue,playback] [--starts 3] [--python FILE]

Two servers run at a time: the broker as it is, and the broker with one shortcut replaced by the plain form
(`tests.bench.plain`). They are loaded in turns (A, B, B, A), and the processor time of a request is compared within
each round, so that other work on the machine falls on both. A positive figure is what the shortcut saves, in percent of
the plain form's time; the median and the quartiles of the rounds are printed. The memory is that after `--requests`
uploads, of servers started anew, in turns; the median of `--starts`.
"""

import argparse
import sys
import time
from collections.abc import Sequence
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
WARM_UP = 2_000


def main() -> None:
    """Measure the shortcuts that were named, or all, and print a row for each."""
    options = _options()
    machine.allow_many_connections()
    cores = machine.divide_cores()
    rows = options.rows.split(",")
    with workplace(with_postgresql=options.database == "postgresql", python=options.python) as place:
        whole = _variant(place, AS_IT_IS, options.database)
        with serving(whole, cores.server, place.directory) as base:
            _warm_up(base, rows)
            print(f"{'shortcut':<18}" + "".join(f"{f'{row}, %':>26}" for row in rows) + f"{'memory, %':>12}")
            for name in options.names or [name for name in VARIANTS if name != AS_IT_IS]:
                plain = _variant(place, name, options.database)
                with serving(plain, cores.server, place.directory) as other:
                    _warm_up(other, rows)
                    saved = [_saved(base, other, row, options) for row in rows]
                memory = _memory_saved(place, whole, plain, cores, options)
                shown = [f"{each.middle:.1f} ({each.low:.1f} to {each.high:.1f})" for each in saved]
                print(f"{name:<18}" + "".join(f"{each:>26}" for each in shown) + f"{memory:>12}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*VARIANTS, []], metavar="NAME")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--requests", type=int, default=2_000, help="how many requests a slot has")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--rows", default="issue,playback")
    parser.add_argument("--starts", type=int, default=3, help="how many servers the memory is the median of; 0: none")
    parser.add_argument("--python", type=lambda name: Path(name).absolute(), default=Path(sys.executable))
    return parser.parse_args()


def _variant(place: Workplace, name: str, kind: str) -> Contender:
    contender = ours(place, kind, name=name)
    interpreter, dash_m, _, *arguments = contender.command
    return replace(contender, command=(interpreter, dash_m, "tests.bench.plain", name, *arguments))


def _warm_up(server: Running, rows: Sequence[str]) -> None:
    for row in rows:
        load(server.base, server.contender.requests[row], connections=CONNECTIONS, count=WARM_UP)


def _saved(base: Running, other: Running, row: str, options: argparse.Namespace) -> Spread:
    """Return how many percent of the plain form's processor time the shortcut saves in each round."""
    saved = []
    for _ in range(options.rounds):
        first, plain_first, plain_second, second = (
            _microseconds(server, row, options.requests) for server in (base, other, other, base)
        )
        saved.append(100 * (1 - (first + second) / (plain_first + plain_second)))
    return Spread.of(saved)


def _microseconds(server: Running, row: str, requests: int) -> float:
    """Return the processor time of one request, of all threads of the server's process."""
    clock = ~server.process.pid << 3 | 2  # CPUCLOCK_SCHED of a process, as clock_getcpuclockid(3) makes it
    before = time.clock_gettime(clock)
    answers = load(server.base, server.contender.requests[row], connections=CONNECTIONS, count=requests)
    assert answers.failures == 0, f"{server.contender.name}: {answers.failures} requests failed"
    return (time.clock_gettime(clock) - before) / answers.count * 1e6


def _memory_saved(
    place: Workplace, whole: Contender, plain: Contender, cores: machine.Cores, options: argparse.Namespace
) -> str:
    if not options.starts:
        return "–"
    seen: dict[str, list[int]] = {whole.name: [], plain.name: []}
    for _ in range(options.starts):
        for contender in (whole, plain):
            with serving(contender, cores.server, place.directory) as server:
                _warm_up(server, ["issue"])
                load(server.base, contender.requests["issue"], connections=CONNECTIONS, count=options.requests)
                seen[contender.name].append(server.rss_bytes())
    return f"{100 * (1 - median(seen[whole.name]) / median(seen[plain.name])):.1f}"


if __name__ == "__main__":
    main()
