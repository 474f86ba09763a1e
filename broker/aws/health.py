"""The health of S3: one cached look at the bucket that answers for all callers."""

import asyncio
import time
from typing import Any

from broker.aws.bucket import Bucket
from broker.errors import BrokerError

KEPT_SECONDS = 5.0
"""How long one look at S3 answers for all callers, so that the broker cannot be used to load S3."""


class Health:
    """Look at the bucket, at most once in KEPT_SECONDS."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._looked_at = float("-inf")
        self._healthy = False
        self._looking: asyncio.Task[None] | None = None

    async def s3(self) -> dict[str, Any]:
        """Return the body of the answer; `success` tells whether S3 answered."""
        if time.monotonic() - self._looked_at >= KEPT_SECONDS:
            if self._looking is None:
                self._looking = asyncio.create_task(self._look())
            await asyncio.shield(self._looking)
        return {
            "success": self._healthy,
            "service": "s3",
            "bucket": self._bucket.config.name,
            "region": self._bucket.config.region,
            "status": "healthy" if self._healthy else "unhealthy",
        }

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(self._bucket.config.timeout_seconds):  # for all attempts together
                await self._bucket.check()
            self._healthy = True
        except (BrokerError, TimeoutError):
            self._healthy = False
        finally:
            self._looked_at = time.monotonic()
            self._looking = None
