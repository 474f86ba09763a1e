"""A backlog of due media, half of them uploaded, swept by one worker while issues go on.

`python -m tests.bench.backlog` prints the rate, the worker's processor time for each media, its memory, and how long
the issues took.
"""

import argparse
import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import psutil
import sqlalchemy as sa

from broker.domain.access.quota import Quota
from broker.domain.ids import new_id
from broker.domain.media import Media
from broker.store import Store, migrate
from broker.store.connections.address import parse_url
from tests.bench.contenders import KEYS
from tests.bench.life import FAST, OTHER_CORE, SERVER_CORE, stand_in
from tests.bench.stand_in_s3 import SIZE
from tests.bench.workplace import ROOT, Workplace, workplace

AT_ONCE = 2000
"""How many media are recorded at a time before the sweep begins."""
OWNERS = 50
LEFT = "SELECT count(*) FROM broker_media WHERE state IN ('pending', 'promoting') AND due_at <= :now"


def media(number: int, policy_expires_at: datetime) -> Media:
    """Return a pending media of one of OWNERS owners."""
    now = datetime.now(UTC)
    return Media(
        id=new_id(now),
        owner=f"owner-{number % OWNERS}",
        content_type="video/mp4",
        max_size=SIZE,
        promised_size=SIZE,
        created_at=now,
        policy_expires_at=policy_expires_at,
        due_at=policy_expires_at + timedelta(minutes=15),
    )


async def fill(store: Store, count: int) -> None:
    """Record `count` media that are due since an hour."""
    ended = datetime.now(UTC) - timedelta(hours=1, minutes=15)
    for first in range(0, count, AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, count))
        await asyncio.gather(*(store.add(media(number, ended), Quota()) for number in numbers))


async def issue(store: Store, per_second: int, took: list[float]) -> None:
    """Record new media at a steady rate, and note how long each takes."""
    tasks: set[asyncio.Task[None]] = set()

    async def add(number: int) -> None:
        began = time.perf_counter()
        await store.add(media(number, datetime.now(UTC) + timedelta(minutes=15)), Quota())
        took.append(time.perf_counter() - began)

    number = 0
    while True:
        tasks.add(task := asyncio.create_task(add(number)))
        task.add_done_callback(tasks.discard)
        number += 1
        await asyncio.sleep(1 / per_second)


@contextmanager
def working(place: Workplace, url: str, endpoint: str) -> Iterator[psutil.Process]:
    """Run `broker worker` on a core of its own."""
    environment = KEYS | {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "SECRET_KEY": "a secret of the benchmark, of more than 32 bytes",
        "AWS_S3_BUCKET_NAME": "media-bucket",
        "AWS_S3_REGION": "eu-west-1",
        "CLOUD_STORAGE_PROVIDER": "s3",
        "BROKER_DATABASE_URL": url,
        "BROKER_S3_ENDPOINT_URL": endpoint,
        "BROKER_S3_PATH_STYLE": "true",
        "BROKER_S3_POOL_SIZE": "512",
    }
    with (place.directory / "worker.log").open("ab") as output:
        process = subprocess.Popen(
            [str(place.python), "-m", "broker", "worker"],
            env=environment,
            cwd=place.directory,
            stdout=output,
            stderr=output,
            preexec_fn=lambda: os.sched_setaffinity(0, SERVER_CORE),
        )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


async def sweep(place: Workplace, url: str, endpoint: str, *, count: int, per_second: int) -> None:
    """Sweep a backlog, and print what it took."""
    store = Store(url, timeout_seconds=30)
    await fill(store, count)
    database = sa.create_engine(parse_url(url))
    took: list[float] = []
    issuing = asyncio.create_task(issue(store, per_second, took))
    now = datetime.now(UTC).isoformat() if url.startswith("sqlite") else datetime.now(UTC)

    def left() -> int:
        with database.connect() as connection:
            return int(connection.execute(sa.text(LEFT), {"now": now}).scalar_one())

    with working(place, url, endpoint) as worker:
        while await asyncio.to_thread(left) == count:
            await asyncio.sleep(0.05)
        began, cpu_before, most = time.monotonic(), sum(worker.cpu_times()[:2]), 0
        while await asyncio.to_thread(left):
            most = max(most, worker.memory_info().rss)
            await asyncio.sleep(0.25)
        seconds = time.monotonic() - began
        cpu = sum(worker.cpu_times()[:2]) - cpu_before
    issuing.cancel()
    await store.close()
    database.dispose()
    took.sort()
    p50, p99 = (took[int(len(took) * share)] * 1000 for share in (0.5, 0.99))
    print(
        f"  {count} media in {seconds:.1f} s: {count / seconds:.0f}/s | {cpu / count * 1e6:.0f} µs of processor time "
        f"each | at most {most / 2**20:.0f} MiB | {len(took)} issues meanwhile, p50 {p50:.1f} ms, p99 {p99:.1f} ms"
    )


def main() -> None:
    """Sweep a backlog on each database that was named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--issues", type=int, default=100, help="a second")
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"])
    options = parser.parse_args()
    os.sched_setaffinity(0, OTHER_CORE)
    with workplace(with_postgresql="postgresql" in options.databases) as place, stand_in(FAST, half=True) as endpoint:
        for kind in options.databases:
            print(f"{kind}, S3 answers at once, {options.issues} issues a second meanwhile")
            url = place.new_database(kind)
            migrate(url)
            asyncio.run(sweep(place, url, endpoint, count=options.count, per_second=options.issues))


if __name__ == "__main__":
    main()
