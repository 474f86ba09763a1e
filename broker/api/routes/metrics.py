"""The metrics route, for Prometheus."""

from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from broker import metrics
from broker.api.state import services
from broker.errors import DatabaseUnavailable

router = APIRouter()


@router.get("/metrics", include_in_schema=False)
async def read_metrics(request: Request) -> Response:
    """Return the metrics of all processes; the backlog is counted now, unless the database is unavailable."""
    store, now = services(request).store, datetime.now(UTC)
    with suppress(DatabaseUnavailable):
        metrics.set_backlog(now, **asdict(await store.backlog()))
        metrics.set_untold(now, **asdict(await store.outbox.backlog()))
    return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)
