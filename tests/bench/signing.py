"""Compare how fast this broker and boto3 sign: `python -m tests.bench.signing`.

Both sign in turns, so that whatever else the machine does slows both. Each turn gives one ratio; the median and the
quartiles of the ratios are printed, beside the microseconds that one signature takes. Every signature has its own key,
and ours its own instant, as in use; arguments are made before the clock starts. It fails when a median misses its
target.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from statistics import median, quantiles
from time import perf_counter_ns

import boto3
import botocore.auth
from botocore.config import Config

from broker.domain.ids import new_id
from broker.domain.keys import final_key, staging_key
from broker.domain.s3.policy import Promise, presign_post
from broker.domain.s3.sigv4 import Address, Credentials, presign_get

TURNS = 200
OURS_PER_TURN = 400
THEIRS_PER_TURN = 20

BUCKET = "media-bucket"
REGION = "eu-west-1"
TYPE = "video/mp4"
CREDENTIALS = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
ADDRESS = Address.of(f"https://{BUCKET}.s3.{REGION}.amazonaws.com/")
# Signs URLs by botocore's own hand, as in an install without awscrt; the two are about as fast.
botocore.auth.AUTH_TYPE_MAPS["s3v4-query"] = botocore.auth.S3SigV4QueryAuth

START = datetime(2026, 1, 1, tzinfo=UTC)

CLIENT = boto3.client(
    "s3",
    region_name=REGION,
    aws_access_key_id=CREDENTIALS.access_key,
    aws_secret_access_key=CREDENTIALS.secret_key,
    config=Config(signature_version="s3v4", s3={"addressing_style": "virtual"}),
)


@dataclass(frozen=True, slots=True)
class Job:
    """One object to sign for, at one instant, with what either side takes as arguments."""

    now: datetime
    promise: Promise
    final_key: str
    fields: dict[str, str]
    conditions: list[object]


def jobs() -> Iterator[Job]:
    """Yield job after job, some seconds apart."""
    for number in count():
        now = START + timedelta(seconds=7 * number)
        media_id = new_id(now)
        promise = Promise(bucket=BUCKET, key=staging_key(media_id), content_type=TYPE, min_size=1, max_size=100_000_000)
        fields = promise.exact_fields()
        conditions: list[object] = [
            *({name: value} for name, value in fields.items()),
            ["content-length-range", 1, 100_000_000],
        ]
        yield Job(now, promise, final_key(media_id, TYPE, 1), fields, conditions)


def our_post(job: Job) -> object:
    return presign_post(job.promise, CREDENTIALS, now=job.now, region=REGION, expires_in=900)


def their_post(job: Job) -> object:
    return CLIENT.generate_presigned_post(
        BUCKET, job.promise.key, Fields=job.fields, Conditions=job.conditions, ExpiresIn=900
    )


def our_get(job: Job) -> object:
    return presign_get(CREDENTIALS, ADDRESS, job.final_key, now=job.now, region=REGION, expires_in=3600)


def their_get(job: Job) -> object:
    return CLIENT.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": job.final_key}, ExpiresIn=3600)


def microseconds(sign: Callable[[Job], object], batch: list[Job]) -> float:
    """Return how long one signature of the batch took on average."""
    begun = perf_counter_ns()
    for job in batch:
        sign(job)
    return (perf_counter_ns() - begun) / len(batch) / 1000


def compare(name: str, ours: Callable[[Job], object], theirs: Callable[[Job], object], target: int) -> bool:
    """Print one line, and return whether the median ratio reaches `target`."""
    work = jobs()
    mine, yours = [], []
    for _ in range(TURNS):
        mine.append(microseconds(ours, [next(work) for _ in range(OURS_PER_TURN)]))
        yours.append(microseconds(theirs, [next(work) for _ in range(THEIRS_PER_TURN)]))
    ratios = [slow / fast for slow, fast in zip(yours, mine, strict=True)]
    low, middle, high = quantiles(ratios, n=4)
    print(
        f"{name}: {middle:.1f} times as fast as boto3 (quartiles {low:.1f} to {high:.1f}, target {target}); "
        f"{median(mine):.1f} µs and {median(yours):.1f} µs, {TURNS} turns"
    )
    return middle >= target


def main() -> int:
    reached = [
        compare("presigned POST", our_post, their_post, target=20),
        compare("presigned GET", our_get, their_get, target=35),
    ]
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
