"""The processor time of a completion without HTTP, by thread: `python -m tests.bench.completion`.

256 callers of the verb share one process, and the stand-in for S3 answers at once. So the figures depend less on the
load generator than those of `tests.bench.life`, and two versions can be compared in turns on a machine that is in use.
"""

import argparse
import asyncio
import gc
import os
import re
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from statistics import median
from uuid import UUID

import uvloop

from broker.aws.bucket import Bucket, BucketConfig
from broker.domain.access.quota import Quota
from broker.domain.rules import Rules
from broker.domain.s3.sigv4 import Credentials
from broker.lifecycle.settlement import Settlement
from broker.lifecycle.verbs import Lifecycle
from broker.server.serve import GC_THRESHOLDS
from broker.store import Store, migrate
from tests.bench.life import FAST, SERVER_CORE, record, stand_in
from tests.bench.rows import ANN

CALLERS = 256
ROUNDS = 7


def by_kind_of_thread() -> Counter[str]:
    """Return the processor time of the living threads, in microseconds; those of one pool count together."""
    spent: Counter[str] = Counter()
    for thread in threading.enumerate():
        clock = time.pthread_getcpuclockid(thread.ident or 0)
        spent[re.sub(r"[-_]\d+$", "", thread.name)] += int(time.clock_gettime(clock) * 1e6)
    return spent


async def complete(verbs: Lifecycle, settlement: Settlement, ids: Sequence[UUID]) -> Counter[str]:
    """Complete each media once, and return the microseconds of the threads for all of them."""
    before, left = by_kind_of_thread(), iter(ids)

    async def call() -> None:
        for media_id in left:
            await verbs.complete(media_id, ANN)

    await asyncio.gather(*(call() for _ in range(CALLERS)))
    await settlement.purges.finish()
    return by_kind_of_thread() - before


async def measure(url: str, endpoint: str, ids: Sequence[UUID]) -> list[Counter[str]]:
    """Return the microseconds of each round; the first round warms up and is left out."""
    config = BucketConfig(
        name="videos",
        region="eu-central-1",
        endpoint_url=endpoint,
        path_style=True,
        is_aws=False,
        credentials=Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        pool_size=512,
    )
    store, bucket = Store(url), Bucket(config)
    settlement = Settlement(store, bucket, grace=timedelta(minutes=1))
    verbs = Lifecycle(store, bucket, rules=Rules(), quota=Quota(), settlement=settlement, policy_seconds=900)
    size = len(ids) // (ROUNDS + 1)
    await complete(verbs, settlement, ids[:size])
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        return [
            await complete(verbs, settlement, ids[number * size : (number + 1) * size])
            for number in range(1, ROUNDS + 1)
        ]
    finally:
        await settlement.close()
        await store.close()
        await bucket.close()


def main() -> None:
    """Print the median of the rounds, for the process and for its threads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=8000, help="media in all rounds together")
    count: int = parser.parse_args().count
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        url = f"sqlite:///{folder}/broker.db"
        migrate(url)
        ids = [UUID(media_id) for media_id in asyncio.run(record(url, count))]
        with stand_in(FAST) as endpoint:
            os.sched_setaffinity(0, SERVER_CORE)
            rounds = uvloop.run(measure(url, endpoint, ids))
    size = count // (ROUNDS + 1)
    totals = sorted(spent.total() / size for spent in rounds)
    print(f"{median(totals):.0f} µs of processor time a completion ({totals[0]:.0f} to {totals[-1]:.0f})")
    for name in rounds[0]:
        print(f"  {name:<12} {median(spent[name] / size for spent in rounds):5.0f} µs")


if __name__ == "__main__":
    main()
