"""Issue, playback and delete while 1,000 completions wait for a slow S3: `python -m tests.bench.busy`.

Prints the 50th and 99th percentile of each, alone and during the completions, and their ratio. The broker has the first
core; the stand-in S3, the generator and this program have the last one.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from tests.bench import machine
from tests.bench.contenders import PREFIX, ours
from tests.bench.generator import Request, load
from tests.bench.life import OTHER_CORE, SERVER_CORE, answered, record, stand_in
from tests.bench.servers import Running, serving
from tests.bench.workplace import with_ready_media, workplace

COPY_SECONDS = 10.0
CALLERS = 1_000
RATE, CONNECTIONS = 200, 8
"""The requests per second that are measured, which leave the broker mostly idle."""
DELETIONS = 200


def deletes(server: Running, request: Request) -> tuple[float, float]:
    """Send each deletion once; return the median and the 99th percentile, in milliseconds."""
    outcomes = asyncio.run(answered(server.base, request, CONNECTIONS))
    took = sorted(milliseconds for status, milliseconds in outcomes if status == 200)
    if len(took) < len(request.paths):
        sys.exit("a deletion was refused")
    return took[len(took) // 2], took[len(took) * 99 // 100]


def percentiles(server: Running, request: Request, seconds: float) -> tuple[float, float]:
    """Return the median and the 99th percentile of requests at RATE, in milliseconds."""
    answers = load(server.base, request, connections=CONNECTIONS, seconds=seconds, rate=RATE)
    return answers.percentile(50), answers.percentile(99)


@contextmanager
def completing(server: Running, request: Request) -> Iterator[None]:
    """Send the requests, all at once, from another process; they are under way in the block."""
    paths = "\n".join(request.paths)
    command = [sys.executable, "-m", "tests.bench.busy", "--complete", server.base]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, text=True, env=os.environ | {"BENCH_TOKEN": _token(request)}
    )
    assert process.stdin is not None
    process.stdin.write(paths)
    process.stdin.close()
    time.sleep(COPY_SECONDS / 4)  # they have all begun
    if process.poll() is not None:
        sys.exit("the completions ended before anything else was measured")
    try:
        yield
        if process.poll() is not None:
            sys.exit("the completions ended during the measurement; use a slower S3")
    finally:
        process.wait()


def complete(base: str) -> None:
    """Send a completion for each path on standard input, all at once."""
    headers = {"Authorization": os.environ["BENCH_TOKEN"]}
    request = Request("POST", sys.stdin.read().split(), headers)
    outcomes = asyncio.run(answered(base, request, len(request.paths)))
    done = sum(200 <= status < 300 for status, _ in outcomes)
    print(f"  {done} of {len(request.paths)} completions ended well")


def main() -> None:
    """Measure alone, then during the completions, and print both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--complete", metavar="BASE", help=argparse.SUPPRESS)
    parser.add_argument("--pool", type=int, default=256, help="BROKER_S3_POOL_SIZE")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    options = parser.parse_args()
    if options.complete:
        complete(options.complete)
        return
    machine.allow_many_connections()
    os.sched_setaffinity(0, OTHER_CORE)
    with (
        workplace(with_postgresql=options.database == "postgresql") as place,
        stand_in({"head": 20, "put": COPY_SECONDS * 1000, "post": 20}) as endpoint,
    ):
        url = place.new_database(options.database)
        ready = with_ready_media(url)
        contender = ours(place, options.database, name="busy", filled=(url, ready), workers=1)
        environment = {
            "BROKER_S3_ENDPOINT_URL": endpoint,
            "BROKER_S3_PATH_STYLE": "true",
            "CLOUD_STORAGE_PROVIDER": "s3",
            "BROKER_S3_POOL_SIZE": str(options.pool),
            "BROKER_S3_TIMEOUT_SECONDS": str(4 * COPY_SECONDS),
        }
        contender = replace(contender, environment={**contender.environment, **environment})
        seconds = COPY_SECONDS / 8
        pending = asyncio.run(record(url, CALLERS))
        deleted = iter([asyncio.run(record(url, DELETIONS)) for _ in range(2)])
        completions = Request("POST", [f"{PREFIX}/{media_id}/complete" for media_id in pending], place.headers)
        with serving(contender, SERVER_CORE, place.directory) as server:

            def measured() -> dict[str, tuple[float, float]]:
                deletions = Request("DELETE", [f"{PREFIX}/{media_id}" for media_id in next(deleted)], place.headers)
                links = {row: percentiles(server, contender.requests[row], seconds) for row in ("issue", "playback")}
                return {**links, "delete": deletes(server, deletions)}

            alone = measured()
            with completing(server, completions):
                during = measured()
        print(f"{CALLERS} completions, a copy takes {COPY_SECONDS:g} s, {options.pool} calls to S3 at most")
        for row in alone:
            (p50, p99), (p50_then, p99_then) = alone[row], during[row]
            print(
                f"  {row:<9} p50 {p50:6.1f} ms, then {p50_then:6.1f} ms | p99 {p99:6.1f} ms, then {p99_then:6.1f} ms "
                f"| p99 ratio {p99_then / p99:.2f}"
            )


def _token(request: Request) -> str:
    return request.headers["Authorization"]


if __name__ == "__main__":
    main()
