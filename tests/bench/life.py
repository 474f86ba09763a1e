"""The whole life of a media against a stand-in S3: issue, complete, playback, delete. `python -m tests.bench.life`.

Prints the broker's processor time for each request, the rate on one core, and the durations that callers see. With
--peers the completions of the peers stand beside it: the tutorial asks for a HEAD by boto3, Express for HeadObject and
CopyObject by the AWS SDK.
"""

import argparse
import asyncio
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import aiohttp
import uvloop

from broker.domain.access.quota import Quota
from broker.domain.ids import new_id
from broker.domain.media import Media
from broker.store import Store
from tests.bench.contenders import PREFIX, node_peers, ours, tutorial
from tests.bench.generator import Request, load
from tests.bench.rows import ANN
from tests.bench.servers import START_SECONDS, Contender, Running, serving
from tests.bench.stand_in_s3 import SIZE
from tests.bench.workplace import Workplace, with_ready_media, workplace

FAST = {"head": 0.0, "put": 0.0, "post": 0.0}
SLOW = {"head": 20.0, "put": 300.0, "post": 20.0}
"""Milliseconds of a HEAD, a copy and a delete, as S3 takes for a video of some hundred megabytes."""
WARM_UP, NODE_WARM_UP = 1_000, 2_000
"""How many media a server completes before it is measured: its code is compiled then, its connections are open."""
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, OTHER_CORE = frozenset(CORES[:1]), frozenset(CORES[-1:])


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one kind of request: its rate, processor time in microseconds, and median in milliseconds."""

    rate: float
    cpu: float
    p50: float


@contextmanager
def stand_in(milliseconds: dict[str, float], *, half: bool = False) -> Iterator[str]:
    """Run the stand-in on the load's core, and yield its address; with `half`, it lacks every other upload."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = [part for name, value in milliseconds.items() for part in (f"--{name}", str(value))]
    options += ["--half"] if half else []
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.stand_in_s3", "--port", str(port), *options],
        preexec_fn=lambda: os.sched_setaffinity(0, OTHER_CORE),
    )
    try:
        _wait_for(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


async def record(url: str, count: int) -> list[str]:
    """Record pending media of Ann's whose policies just began, and return their ids."""
    store = Store(url)
    now = datetime.now(UTC).replace(microsecond=0)
    media = [
        Media(
            id=new_id(datetime.now(UTC)),
            owner=ANN,
            content_type="video/mp4",
            max_size=SIZE,
            promised_size=SIZE,
            created_at=now,
            policy_expires_at=now.replace(year=now.year + 1),
        )
        for _ in range(count)
    ]
    try:
        await asyncio.gather(*(store.add(one, Quota()) for one in media))
    finally:
        await store.close()
    return [str(one.id) for one in media]


async def answered(base: str, request: Request, callers: int) -> list[tuple[int, float]]:
    """Send each path once, by so many callers; return the status and the milliseconds of each.

    h2load would give each of its connections the whole list.
    """
    paths = iter(request.paths)
    outcomes: list[tuple[int, float]] = []

    async def call(session: aiohttp.ClientSession) -> None:
        for path in paths:
            began = time.perf_counter()
            async with session.request(
                request.method, base + path, headers=request.headers, data=request.body
            ) as response:
                await response.read()
                outcomes.append((response.status, (time.perf_counter() - began) * 1000))

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(call(session) for _ in range(callers)))
    return outcomes


def measure(server: Running, what: str, request: Request, *, callers: int) -> Figures:
    """Send each path once, print what it took, and return it."""
    before, began = server.cpu_seconds(), time.monotonic()
    outcomes = uvloop.run(answered(server.base, request, callers))
    seconds = time.monotonic() - began
    took = sorted(milliseconds for status, milliseconds in outcomes if 200 <= status < 300)
    cpu = (server.cpu_seconds() - before) / max(len(took), 1) * 1e6
    p50, p99 = (took[int(len(took) * share)] if took else float("nan") for share in (0.50, 0.99))
    print(
        f"  {what:<9} {len(took):>6} of {len(request.paths)} | {cpu:7.0f} µs of processor time | "
        f"{len(took) / seconds:7.0f}/s | p50 {p50:7.1f} ms | p99 {p99:7.1f} ms"
    )
    return Figures(len(took) / seconds, cpu, p50)


def completions(place: Workplace, ids: list[str]) -> Request:
    """Return what completes each media once."""
    return Request("POST", [f"{PREFIX}/{one}/complete" for one in ids], place.headers)


def live(place: Workplace, kind: str, milliseconds: dict[str, float], *, count: int, callers: int) -> Figures:
    """Run the life of `count` media on one broker process; return the figures of its completions."""
    url = place.new_database(kind)
    ready = with_ready_media(url)
    ids = asyncio.run(record(url, WARM_UP + count))
    first, ids = ids[:WARM_UP], ids[WARM_UP:]
    with stand_in(milliseconds) as endpoint:
        contender = ours(place, kind, name=f"life-{kind}", filled=(url, ready), workers=1)
        contender = replace(
            contender,
            environment={
                **contender.environment,
                "BROKER_S3_ENDPOINT_URL": endpoint,
                "BROKER_S3_PATH_STYLE": "true",
                "CLOUD_STORAGE_PROVIDER": "s3",
                "BROKER_S3_POOL_SIZE": "512",  # room for the copies of all callers
            },
        )
        with serving(contender, SERVER_CORE, place.directory) as server:
            issue = contender.requests["issue"]
            measure(server, "issue", replace(issue, paths=list(issue.paths) * count), callers=callers)
            uvloop.run(answered(server.base, completions(place, first), callers))
            completed = measure(server, "complete", completions(place, ids), callers=callers)
            measure(server, "playback", place.playback(PREFIX, ids), callers=callers)
            measure(
                server, "delete", Request("DELETE", [f"{PREFIX}/{one}" for one in ids], place.headers), callers=callers
            )
            print(f"  memory afterwards: {server.rss_bytes() / 2**20:.0f} MiB")
            return completed


def compare(place: Workplace, own: Figures, milliseconds: dict[str, float], *, count: int, callers: int) -> None:
    """Complete media with each peer, and print what the broker's own completions are to that."""
    express = next(peer for peer in node_peers(place) if peer.name == "Express")
    with stand_in(milliseconds) as endpoint:
        for peer in (tutorial(place, SERVER_CORE), express):
            contender = replace(peer, environment={**peer.environment, "BENCH_S3": endpoint})
            with serving(contender, SERVER_CORE, place.directory) as server:
                first = NODE_WARM_UP if contender.is_node else WARM_UP
                ids = uploads(server, contender, first + count)
                request = Request("POST", [f"/{one}/complete" for one in ids], place.headers)
                uvloop.run(answered(server.base, replace(request, paths=request.paths[:first]), callers))
                its = measure(server, contender.name, replace(request, paths=request.paths[first:]), callers=callers)
            print(
                f"    broker ÷ {contender.name}: rate {own.rate / its.rate:.1f}, "
                f"processor time {own.cpu / its.cpu:.2f}, p50 {own.p50 / its.p50:.2f}"
            )


def uploads(server: Running, contender: Contender, count: int) -> list[str]:
    """Return ids that the peer completes: those that the tutorial recorded; any, as Express records none."""
    if "BENCH_DATABASE" not in contender.environment:
        return [str(uuid4()) for _ in range(count)]
    load(server.base, contender.requests["issue"], connections=16, count=count)
    with closing(sqlite3.connect(contender.environment["BENCH_DATABASE"])) as database:
        return [media_id for (media_id,) in database.execute("SELECT id FROM media LIMIT ?", [count])]


def main() -> None:
    """Measure both stand-ins on each database that was named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--callers", type=int, default=256)
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--peers", action="store_true", help="complete with the tutorial and Express, too")
    parser.add_argument("--python", type=lambda name: Path(name).absolute(), default=Path(sys.executable))
    options = parser.parse_args()
    os.sched_setaffinity(0, OTHER_CORE)
    with workplace(with_postgresql="postgresql" in options.databases, python=options.python) as place:
        for name, milliseconds in (("at once", FAST), ("20/300/20 ms", SLOW)):
            for kind in options.databases:
                print(f"{kind}, S3 answers {name}, {options.callers} callers", flush=True)
                own = live(place, kind, milliseconds, count=options.count, callers=options.callers)
                if options.peers:
                    compare(place, own, milliseconds, count=options.count // 4, callers=options.callers)


if __name__ == "__main__":
    main()
