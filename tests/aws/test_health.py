"""The health of S3: one check answers all callers for a few seconds."""

import asyncio
import time

import pytest

from broker.aws.bucket import Bucket, BucketConfig
from broker.aws.health import KEPT_SECONDS, Health
from broker.errors import StorageRefused, StorageUnavailable

pytestmark = pytest.mark.timeout(20)

HEALTHY = {"success": True, "service": "s3", "bucket": "videos", "region": "eu-central-1", "status": "healthy"}
UNHEALTHY = HEALTHY | {"success": False, "status": "unhealthy"}


class Checked(Bucket):
    """A bucket whose checks end as the test says, once it lets them."""

    def __init__(self, *outcomes: Exception | None, timeout_seconds: float = 3600) -> None:
        self.config = BucketConfig(name="videos", region="eu-central-1", timeout_seconds=timeout_seconds)
        self.outcomes = list(outcomes)
        self.checks = 0
        self.let_go = asyncio.Event()
        self.let_go.set()

    async def check(self) -> None:
        self.checks += 1
        await self.let_go.wait()
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if outcome is not None:
            raise outcome


class Stopwatch:
    """A monotonic clock that a test advances."""

    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def stopwatch(monkeypatch: pytest.MonkeyPatch) -> Stopwatch:
    stopwatch = Stopwatch()
    monkeypatch.setattr(time, "monotonic", stopwatch)
    return stopwatch


@pytest.mark.parametrize(
    ("outcome", "body"),
    [
        (None, HEALTHY),
        (StorageUnavailable(operation="head_bucket", cause="SlowDown"), UNHEALTHY),
        (StorageRefused(operation="head_bucket", code="403"), UNHEALTHY),
    ],
    ids=["healthy", "away", "refused"],
)
async def test_the_body_says_whether_s3_answered(outcome: Exception | None, body: dict[str, object]) -> None:
    assert await Health(Checked(outcome)).s3() == body


async def test_a_result_is_kept_for_five_seconds(stopwatch: Stopwatch) -> None:
    bucket = Checked(None, StorageRefused(operation="head_bucket", code="403"), None)
    health = Health(bucket)
    bodies = []
    for seconds in (0, KEPT_SECONDS - 0.1, 0.1, KEPT_SECONDS - 0.1, 0.1):
        stopwatch.seconds += seconds
        bodies.append((await health.s3())["status"])
    assert bodies == ["healthy", "healthy", "unhealthy", "unhealthy", "healthy"]
    assert bucket.checks == 3


async def test_callers_share_a_check_and_one_that_leaves_ends_it_for_no_other(stopwatch: Stopwatch) -> None:
    bucket = Checked(None)
    bucket.let_go.clear()
    health = Health(bucket)
    leaving, *staying = (asyncio.create_task(health.s3()) for _ in range(4))
    while not bucket.checks:
        await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    bucket.let_go.set()
    assert await asyncio.gather(*staying) == [HEALTHY] * 3
    assert bucket.checks == 1


async def test_a_silent_s3_is_unhealthy_after_the_time_of_one_call() -> None:
    bucket = Checked(None, timeout_seconds=0.01)
    bucket.let_go.clear()
    assert await Health(bucket).s3() == UNHEALTHY
