"""The growth of the broker by connections, processes and rows."""

import asyncio
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from tests.bench.contenders import OURS, ours
from tests.bench.generator import load
from tests.bench.machine import Cores
from tests.bench.rounds import Spread, failures, interleave, middle, warm_up
from tests.bench.rows import load as load_rows
from tests.bench.servers import Running, serving
from tests.bench.workplace import Workplace, count_of, some_ready

CONNECTIONS = (1, 16, 64, 256, 1024)
ROWS = (1_000, 10_000, 100_000, 1_000_000)
MANY = 1024


@dataclass(frozen=True, slots=True)
class Point:
    """Hold one point of a curve: answers per second, the median of the slots' 99th percentiles, failures."""

    axis: str
    curve: str
    at: int
    rate: Spread
    p99: float
    failures: int


@dataclass(frozen=True, slots=True)
class Kept:
    """Say how many uploads were asked for over very many connections, answered with 201, and recorded."""

    name: str
    asked: int
    answered: int
    recorded: int
    p99: float


def _points(axis: str, at: dict[str, int], servers: Sequence[Running], row: str, **how: float) -> list[Point]:
    for server in servers:
        warm_up(server, row, quick=False)
    slots = interleave(
        servers,
        row,
        rounds=int(how["rounds"]),
        seconds=how["seconds"],
        connections=int(how.get("connections", 64)),
    )
    return [
        Point(
            axis,
            curve=f"{row}, {name.removeprefix(OURS).strip(' ,').split(' ')[0]}",
            at=at[name],
            rate=Spread.of([slot.answers.rate for slot in found]),
            p99=middle(found, lambda slot: slot.answers.percentile(99)),
            failures=failures(found),
        )
        for name, found in slots.items()
    ]


def by_connections(servers: Sequence[Running], *, rounds: int, seconds: float) -> list[Point]:
    """Measure these servers over more and more connections."""
    return [
        point
        for connections in CONNECTIONS
        for row in ("issue", "playback")
        for point in _points(
            "connections",
            {server.contender.name: connections for server in servers},
            servers,
            row,
            rounds=rounds,
            seconds=seconds,
            connections=connections,
        )
    ]


def by_processes(place: Workplace, cores: Cores, *, rounds: int, seconds: float) -> list[Point]:
    """Measure one and two processes on PostgreSQL; nothing is pinned, as two of them need both cores."""
    everywhere = cores.server | cores.load
    with ExitStack() as stack:
        counts = {f"{OURS}, PostgreSQL {count}": count for count in (1, 2)}
        servers = [
            stack.enter_context(
                serving(ours(place, "postgresql", name=name, workers=count), everywhere, place.directory)
            )
            for name, count in counts.items()
        ]
        return [
            point
            for row in ("issue", "playback")
            for point in _points("processes", counts, servers, row, rounds=rounds, seconds=seconds)
        ]


def by_rows(
    place: Workplace, cores: Cores, kinds: dict[str, str], *, counts: Sequence[int], rounds: int, seconds: float
) -> list[Point]:
    """Measure databases with more and more rows, side by side; `kinds`: what is called how."""
    points = []
    for kind, called in kinds.items():
        with ExitStack() as stack:
            servers, at = [], {}
            for count in counts:
                print(f"loading {count:,} rows into {called} …", file=sys.stderr)
                url = place.new_database(kind)
                ids = asyncio.run(some_ready(url, load_rows(url, count)))
                contender = ours(place, kind, name=f"{OURS}, {called} {count}", filled=(url, ids))
                at[contender.name] = count
                servers.append(stack.enter_context(serving(contender, cores.server, place.directory)))
            for row in ("issue", "playback"):
                points += _points("rows", at, servers, row, rounds=rounds, seconds=seconds)
    return points


def keep_all(place: Workplace, cores: Cores, kind: str, name: str, *, count: int) -> Kept:
    """Ask for `count` uploads over 1,024 connections, and count what was recorded."""
    contender = ours(place, kind, name=name)
    url = contender.environment["BROKER_DATABASE_URL"]
    with serving(contender, cores.server, place.directory) as server:
        before = asyncio.run(count_of(url))
        answers = load(server.base, contender.requests["issue"], connections=MANY, count=count)
        recorded = asyncio.run(count_of(url)) - before
    return Kept(name, count, answers.count, recorded, answers.percentile(99))
