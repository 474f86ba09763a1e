"""The whole life of a media against a stand-in S3: issue, complete, playback, delete. `python -m tests.bench.life`.

Prints the broker's processor time for each request, the rate on one core, and the durations that callers see.
"""

import argparse
import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import aiohttp
import uvloop

from broker.domain.ids import new_id
from broker.domain.media import Media
from broker.domain.quota import Quota
from broker.store import Store
from tests.bench.contenders import PREFIX, ours
from tests.bench.generator import Request
from tests.bench.rows import ANN
from tests.bench.servers import Running, serving
from tests.bench.stand_in_s3 import SIZE
from tests.bench.workplace import Workplace, with_ready_media, workplace

FAST = {"head": 0.0, "put": 0.0, "post": 0.0}
SLOW = {"head": 20.0, "put": 300.0, "post": 20.0}
"""Milliseconds of a HEAD, a copy and a delete, as S3 takes for a video of some hundred megabytes."""
SERVER_CORE, OTHER_CORE = frozenset({0}), frozenset({1})


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
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


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


def measure(server: Running, what: str, request: Request, *, callers: int) -> None:
    """Send each path once, and print what it took."""
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


def live(place: Workplace, kind: str, milliseconds: dict[str, float], *, count: int, callers: int) -> None:
    """Run the life of `count` media on one broker process."""
    url = place.new_database(kind)
    ready = with_ready_media(url)
    ids = asyncio.run(record(url, count))
    with stand_in(milliseconds) as endpoint:
        contender = ours(place, kind, name=f"life-{kind}", filled=(url, ready), workers=1)
        contender = replace(
            contender,
            environment={
                **contender.environment,
                "BROKER_S3_ENDPOINT_URL": endpoint,
                "BROKER_S3_PATH_STYLE": "true",
                "CLOUD_STORAGE_PROVIDER": "s3",
                "BROKER_S3_POOL_SIZE": "512",
            },
        )
        with serving(contender, SERVER_CORE, place.directory) as server:
            issue = contender.requests["issue"]
            measure(server, "issue", replace(issue, paths=list(issue.paths) * count), callers=callers)
            measure(
                server,
                "complete",
                Request("POST", [f"{PREFIX}/{one}/complete" for one in ids], place.headers),
                callers=callers,
            )
            measure(server, "playback", place.playback(PREFIX, ids), callers=callers)
            measure(
                server, "delete", Request("DELETE", [f"{PREFIX}/{one}" for one in ids], place.headers), callers=callers
            )
            print(f"  memory afterwards: {server.rss_bytes() / 2**20:.0f} MiB")


def main() -> None:
    """Measure both stand-ins on each database that was named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--callers", type=int, default=256)
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"])
    options = parser.parse_args()
    os.sched_setaffinity(0, OTHER_CORE)
    with workplace(with_postgresql="postgresql" in options.databases) as place:
        for kind in options.databases:
            for name, milliseconds in (("at once", FAST), ("20/300/20 ms", SLOW)):
                print(f"{kind}, S3 answers {name}, {options.callers} callers")
                live(place, kind, milliseconds, count=options.count, callers=options.callers)


if __name__ == "__main__":
    main()
