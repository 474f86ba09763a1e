"""Measure the store: durable adds, lookups and changes per second, with 64 coroutines on one core.

    python -m tests.bench.store [URL] [--concurrency 64] [--count 20000] [--owners 1] [--rounds 3] [--busy 0]

Without a URL it makes an SQLite file in the working directory's file system and removes it. `--busy` is the
share of the event loop that other work takes, as the requests of a server do.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from broker.domain.access.quota import Quota
from broker.domain.ids import new_id
from broker.domain.media import Event, Media
from broker.store import Store, migrate

T = TypeVar("T")
QUOTA = Quota(pending_count=10**9, promised_bytes=10**18, stored_bytes=10**18, media_count=10**9)


def issue(count: int, owners: int) -> list[Media]:
    """Return `count` media, issued 50 microseconds apart, of `owners` owners in turn."""
    now = datetime.now(UTC)
    instants = [now + timedelta(microseconds=50 * number) for number in range(count)]
    return [
        Media(
            id=new_id(at),
            owner=f"auth0|65f0c0ffee{number % owners:014}",
            content_type="video/mp4",
            max_size=100_000_000,
            promised_size=12_345_678,
            filename="holiday.mp4",
            created_at=at,
            policy_expires_at=at + timedelta(minutes=15),
            due_at=at + timedelta(minutes=20),
        )
        for number, at in enumerate(instants)
    ]


async def rate(work: Callable[[T], Awaitable[object]], things: Sequence[T], concurrency: int) -> float:
    """Return how many `things` a second are worked off by `concurrency` coroutines."""
    todo = iter(things)

    async def work_off() -> None:
        for thing in todo:
            await work(thing)

    started = time.perf_counter()
    await asyncio.gather(*(work_off() for _ in range(concurrency)))
    return len(things) / (time.perf_counter() - started)


async def keep_busy(share: float) -> None:
    """Take `share` of the event loop, half a millisecond at a time."""
    while True:
        until = time.perf_counter() + 0.0005
        while time.perf_counter() < until:
            pass
        await asyncio.sleep(0.0005 * (1 / share - 1))


async def measure(url: str, arguments: argparse.Namespace) -> None:
    """Print the rates of each round."""
    store = Store(url)
    other = asyncio.create_task(keep_busy(arguments.busy)) if arguments.busy else None
    print("round   adds/s   gets/s   changes/s")
    for number in range(arguments.rounds):
        media = issue(arguments.count, arguments.owners)
        adds = await rate(lambda one: store.add(one, QUOTA), media, arguments.concurrency)
        gets = await rate(lambda one: store.get(one.id, one.owner), media, arguments.concurrency)
        changes = await rate(
            lambda one: store.change(one, Event.MATCH, size=12_345_678, etag="e"), media, arguments.concurrency
        )
        print(f"{number + 1:5} {adds:8.0f} {gets:8.0f} {changes:11.0f}")
    if other is not None:
        other.cancel()
    await store.close()


def main() -> None:
    """Read the arguments, bind to one core, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?")
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--owners", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", type=float, default=0.0)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as directory:
        url = arguments.url or f"sqlite:///{directory}/broker.db"
        migrate(url)
        asyncio.run(measure(url, arguments))


if __name__ == "__main__":
    main()
