"""Whether the broker lives, may be sent requests, and reaches S3."""

import asyncio
import time
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse

from broker.api.asgi.demands import AddressDemand
from broker.api.asgi.route import ProblemRoute
from broker.api.documentation import COUNTED, problems
from broker.api.problems import NO_STORE
from broker.api.schemas import Alive, S3Health
from broker.api.state import services
from broker.aws.bucket import Bucket
from broker.errors import BrokerError, DatabaseAway
from broker.store import Store

KEPT_SECONDS = 5.0
"""For how long one look at S3 answers for all, so that nobody can load S3 through the broker."""


class Health:
    """Look at S3 and the database, at most once in a few seconds for S3."""

    def __init__(self, store: Store, bucket: Bucket) -> None:
        self.store = store
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
            async with asyncio.timeout(self._bucket.config.timeout_seconds):  # for all that the call tries
                await self._bucket.check()
            self._healthy = True
        except (BrokerError, TimeoutError):
            self._healthy = False
        finally:
            self._looked_at = time.monotonic()
            self._looking = None


router = APIRouter(route_class=ProblemRoute, tags=["health"])


@router.get(
    "/health/s3",
    dependencies=[Depends(AddressDemand("health"))],
    response_model=S3Health,
    responses={**problems(*COUNTED), 503: {"model": S3Health, "description": "S3 is away"}},
)
async def s3_health(request: Request) -> Response:
    """Tell whether the bucket answers. The result is kept for a few seconds."""
    body = await services(request).health.s3()
    return JSONResponse(body, 200 if body["success"] else 503, NO_STORE)


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", response_model=Alive)
async def alive() -> Response:
    """Tell that the process lives."""
    return JSONResponse({"success": True, "status": "alive"}, headers=NO_STORE)


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", response_model=Alive, responses=problems(DatabaseAway))
async def ready(request: Request) -> Response:
    """Tell that the process can serve: its database answers, and was migrated.

    An S3 that is away is no reason to restart it.
    """
    await services(request).health.store.ping()
    return JSONResponse({"success": True, "status": "ready"}, headers=NO_STORE)
