"""The verbs as the settings wire them, over a real SQLite file and without an S3."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from broker.domain.media import Event
from broker.lifecycle.requests import UploadRequest
from broker.lifecycle.verbs import Lifecycle
from broker.settings import Settings, load_settings
from broker.store import Store
from broker.wiring import running
from tests.support.databases import sqlite_url

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
MP4 = UploadRequest(content_type="video/mp4", size=1000)


def settings_for(directory: Path, **overrides: Any) -> Settings:
    return load_settings(
        None,
        bucket_name="videos",
        region="eu-central-1",
        secret_key="a-secret-of-the-tests-and-no-other",
        database_url=sqlite_url(directory),
        **overrides,
    )


@asynccontextmanager
async def verbs_of(settings: Settings) -> AsyncIterator[Lifecycle]:
    async with running(settings) as (services, _):
        yield services.lifecycle


async def ready_media(settings: Settings, verbs: Lifecycle) -> UUID:
    """Record a media that was uploaded and promoted, without an S3: only links are signed for it here."""
    issued = await verbs.issue(MP4, "anna")
    store = Store(settings.database_url)
    promoting = await store.change(issued.media, Event.MATCH, size=1000, etag="e", judgements=1)
    assert promoting is not None
    assert await store.change(promoting, Event.PROMOTE, ready_at=NOW)
    await store.close()
    return issued.media.id
