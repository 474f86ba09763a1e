"""Measure the broker beside its peers, all started by this program: `python -m tests.bench`, or `make bench`.

    python -m tests.bench [--quick] [--parts comparison,footprint,growth] [--only NAME …] [--json FILE] [--write]
                          [--python FILE]

The server has the first core; the load, the databases and this program have the last one. `--quick` asks less of
everything, so that it ends in a minute: good to see that all works, not to quote.
"""

import argparse
import re
import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.bench import growth, machine
from tests.bench.comparison import MEMORY_STEPS, compare, footprint
from tests.bench.contenders import OURS, bare, node_peers, ours, tutorial, verifying_each
from tests.bench.generator import PROGRAM
from tests.bench.plot import draw
from tests.bench.report import ROWS, Report
from tests.bench.servers import Contender, Running, ask, serving
from tests.bench.workplace import Workplace, workplace

HERE = Path(__file__).resolve().parent
SQLITE, POSTGRESQL = f"{OURS}, SQLite", f"{OURS}, PostgreSQL"
RESULTS = re.compile(r"(?<=<!-- results -->\n).*(?=<!-- end of results -->)", re.DOTALL)


def main(arguments: Sequence[str] | None = None) -> Report:
    """Run what was asked for, print the report, and return it."""
    options = _options(arguments)
    if shutil.which(PROGRAM) is None:
        raise SystemExit(f"{PROGRAM} is not installed (Debian: nghttp2-client)")
    machine.allow_many_connections()
    cores = machine.divide_cores()
    report = Report(machine.describe(), _how(options))
    with workplace(with_postgresql=options.postgresql, python=options.python) as place:
        report.load_averages.append(machine.busy())
        report.contenders = _contenders(place, cores, options)
        if "comparison" in options.parts:
            _compare(report, place, cores, options)
        if "footprint" in options.parts:
            _footprints(report, place, cores, options)
        if "growth" in options.parts:
            _grow(report, place, cores, options)
    report.load_averages.append(machine.busy())
    print(report.as_text(markdown=False))
    _save(report, options)
    return report


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__.partition("\n")[0] if __doc__ else ""
    )
    parser.add_argument("--quick", action="store_true", help="a short run")
    parser.add_argument("--rounds", type=int, help="how many rounds (12; 2 with --quick)")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long a slot lasts")
    parser.add_argument("--parts", default="comparison,footprint,growth", help="which parts, comma-separated")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only servers whose names hold one of these")
    parser.add_argument("--no-postgresql", dest="postgresql", action="store_false", help="SQLite alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument(
        "--python",
        type=lambda name: Path(name).absolute(),
        default=Path(sys.executable),
        metavar="FILE",
        help="the servers' Python; by default, this",
    )
    parser.add_argument(
        "--write", action="store_true", help="write the tables and the plot into this directory's README"
    )
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (2 if options.quick else 12)
    options.parts = options.parts.split(",")
    return options


def _how(options: argparse.Namespace) -> str:
    return (
        f"{options.rounds} rounds of slots of {options.seconds:g} s, 64 connections, the server on one core, "
        "the load and the databases on another."
    )


def _contenders(place: Workplace, cores: machine.Cores, options: argparse.Namespace) -> list[Contender]:
    """Return the servers that are compared, ours first."""

    def wanted(name: str) -> bool:
        return not options.only or any(one.lower() in name.lower() for one in options.only)

    on_sqlite = ours(place, "sqlite", name=SQLITE)
    found = [on_sqlite]
    if options.postgresql and wanted(POSTGRESQL):
        found.append(ours(place, "postgresql", name=POSTGRESQL))
    if wanted("each token anew"):
        found.append(verifying_each(on_sqlite))
    if wanted("bare ASGI"):
        with serving(on_sqlite, cores.server, place.directory) as server:
            found.append(bare(place, {row: ask(server.base, request) for row, request in on_sqlite.requests.items()}))
    if wanted("Companion") or wanted("Express"):
        found += [one for one in node_peers(place) if wanted(one.name)]
    if wanted("tutorial"):
        found.append(tutorial(place, cores.server))
    return found


def _compare(report: Report, place: Workplace, cores: machine.Cores, options: argparse.Namespace) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(serving(one, cores.server, place.directory)) for one in report.contenders]
        _require_fast(servers)
        for row in ROWS:
            print(f"{ROWS[row]} …", file=sys.stderr)
            report.lines[row] = compare(
                servers, row, rounds=options.rounds, seconds=options.seconds, quick=options.quick
            )


def _require_fast(servers: Sequence[Running]) -> None:
    """Refuse a broker that does not run on uvloop and httptools."""
    for server in servers:
        for library in ("uvloop", "httptools"):
            if server.contender.name.startswith(OURS) and not server.uses(library):
                raise SystemExit(f"{server.contender.name} does not use {library}; is uvicorn[standard] installed?")


def _footprints(report: Report, place: Workplace, cores: machine.Cores, options: argparse.Namespace) -> None:
    for contender in report.contenders:
        steps: tuple[int, ...] = (500, 1_000) if options.quick else MEMORY_STEPS
        if not contender.name.startswith(OURS):
            steps = steps[:1]
        print(f"memory of {contender.name} …", file=sys.stderr)
        report.footprints.append(
            footprint(contender, place, cores.server, steps=steps, starts=1 if options.quick else 5)
        )


def _grow(report: Report, place: Workplace, cores: machine.Cores, options: argparse.Namespace) -> None:
    kinds = {"sqlite": "SQLite"} | ({"postgresql": "PostgreSQL"} if options.postgresql else {})
    rounds, seconds = max(1, options.rounds // 2), options.seconds
    print("growth …", file=sys.stderr)
    with ExitStack() as stack:
        servers = [
            stack.enter_context(serving(one, cores.server, place.directory))
            for one in report.contenders
            if one.name in (SQLITE, POSTGRESQL)
        ]
        report.points += growth.by_connections(servers, rounds=rounds, seconds=seconds)
    if options.postgresql:
        report.points += growth.by_processes(place, cores, rounds=rounds, seconds=seconds)
    counts = growth.ROWS[:2] if options.quick else growth.ROWS
    report.points += growth.by_rows(place, cores, kinds, counts=counts, rounds=rounds, seconds=seconds)
    for kind, called in kinds.items():
        count = 2_000 if options.quick else 50_000
        report.kept.append(growth.keep_all(place, cores, kind, f"{OURS}, {called}", count=count))


def _save(report: Report, options: argparse.Namespace) -> None:
    if options.json:
        options.json.write_text(report.as_json())
    if options.write:
        readme = HERE / "README.md"
        text = report.as_text(markdown=True)
        readme.write_text(RESULTS.sub(lambda _: f"\n{text}\n", readme.read_text()))
        if report.points:
            (HERE / "growth.svg").write_text(draw(report.points))


if __name__ == "__main__":
    main()
