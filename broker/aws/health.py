"""The health of S3: one cached check of the bucket that answers all callers."""

import asyncio
import time
from typing import Any

from broker.aws.bucket import Bucket
from broker.errors import BrokerError

KEPT_SECONDS = 5.0
"""How long the result is cached, so that clients cannot use the broker to load S3."""


class Health:
    """Checks of the bucket, at most one in KEPT_SECONDS."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._checked_at = float("-inf")
        self._healthy = False
        self._checking: asyncio.Task[None] | None = None

    async def s3(self) -> dict[str, Any]:
        """Return the body of the response; its `success` is true if S3 answered."""
        if time.monotonic() - self._checked_at >= KEPT_SECONDS:
            if self._checking is None:
                self._checking = asyncio.create_task(self._check())
            await asyncio.shield(self._checking)
        return {
            "success": self._healthy,
            "service": "s3",
            "bucket": self._bucket.config.name,
            "region": self._bucket.config.region,
            "status": "healthy" if self._healthy else "unhealthy",
        }

    async def _check(self) -> None:
        try:
            async with asyncio.timeout(self._bucket.config.timeout_seconds):  # for all attempts together
                await self._bucket.check()
            self._healthy = True
        except (BrokerError, TimeoutError):
            self._healthy = False
        finally:
            self._checked_at = time.monotonic()
            self._checking = None
