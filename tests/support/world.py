"""The verbs over a real database and the embedded S3, with a clock that tests move."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from broker.aws.bucket import Bucket, BucketConfig
from broker.clock import Stopwatch, monotonic
from broker.dev.s3 import EmbeddedS3
from broker.domain.access.quota import Quota
from broker.domain.keys import current_key, final_key, staging_key
from broker.domain.media import Media
from broker.domain.rules import Rules
from broker.domain.s3.properties import ObjectProperties
from broker.domain.s3.sigv4 import Credentials
from broker.errors import BrokerError
from broker.lifecycle.probe import Probe
from broker.lifecycle.requests import Issued, UploadRequest
from broker.lifecycle.settlement import Settlement
from broker.lifecycle.verbs import Lifecycle
from broker.store import Store
from broker.worker.sweep import Sweep
from tests.support.databases import sqlite_url

VIDEO = bytes(range(256)) * 16
OTHER = VIDEO[::-1]
POLICY_SECONDS = 900
GRACE_SECONDS = 60
OVER = {"seconds": POLICY_SECONDS + GRACE_SECONDS + 1}
LATER = {"hours": 1}


class Clock:
    """Return the real time plus an offset that a test sets; S3's own clock does not move."""

    def __init__(self) -> None:
        self.moved = timedelta()
        self._stopped_at: datetime | None = None

    def __call__(self) -> datetime:
        return (self._stopped_at or datetime.now(UTC)) + self.moved

    def stop(self) -> None:
        """Stop at a full second; the clock moves only if the test moves it."""
        self._stopped_at = datetime.now(UTC).replace(microsecond=0)

    def move(self, **by: float) -> None:
        self.moved += timedelta(**by)


@dataclass
class World:
    """One broker, its clock, and the bucket as S3 sees it."""

    store: Store
    bucket: Bucket
    settlement: Settlement
    verbs: Lifecycle
    sweep: Sweep
    clock: Clock
    s3: Any
    calls: list[str] = field(default_factory=list)

    async def issue(self, size: int | None = len(VIDEO), content_type: str = "video/mp4", **asked: Any) -> Issued:
        return await self.verbs.issue(UploadRequest(content_type=content_type, size=size, **asked), "anna")

    def post(self, issued: Issued, body: bytes = VIDEO) -> httpx.Response:
        return httpx.post(issued.url, data=issued.fields, files={"file": ("a.mp4", body)})

    async def uploaded(self, **asked: Any) -> Issued:
        issued = await self.issue(**asked)
        assert self.post(issued).status_code == 201
        return issued

    async def state(self, media_id: UUID) -> str:
        return (await self.store.get(media_id, None)).state

    async def renewed(self, media_id: UUID) -> None:
        """Return once the lease on a media ends later than now."""
        while (ends := (await self.store.get(media_id, None)).due_at) is None or ends <= self.clock():
            await asyncio.sleep(0.01)

    async def purged(self) -> None:
        """Return once the purges in the background are done."""
        await self.settlement.purges.finish()

    def final_bytes(self, media: Media) -> bytes | None:
        """Return the bytes of the only object that any attempt left under a final key; None if there is none."""
        return self._bytes(final_key(media.id, media.content_type, 0).rpartition(".")[0])

    async def ready_bytes(self, media_id: UUID) -> bytes | None:
        """Return the bytes under the final key that the row names."""
        return self._bytes(current_key(await self.store.get(media_id, None)))

    def staged_bytes(self, media: Media) -> bytes | None:
        return self._bytes(staging_key(media.id))

    def stored_keys(self, prefix: str = "") -> list[str]:
        """Return the keys of at most 1,000 objects that begin with `prefix`."""
        listing = self.s3.list_objects_v2(Bucket=self.bucket.config.name, Prefix=prefix)
        return [entry["Key"] for entry in listing.get("Contents", ())]

    def _bytes(self, prefix: str) -> bytes | None:
        keys = self.stored_keys(prefix)
        if not keys:
            return None
        assert len(keys) == 1, keys
        body: bytes = self.s3.get_object(Bucket=self.bucket.config.name, Key=keys[0])["Body"].read()
        return body

    async def sweep_all(self) -> None:
        while await self.sweep.once():
            pass
        await self.purged()

    async def sweep_after(self, **by: float) -> None:
        """Move the clock and sweep until nothing is due."""
        self.clock.move(**by)
        await self.sweep_all()


MakeWorld = Callable[..., World]


@pytest.fixture
def world_url(tmp_path: Path) -> str:
    """Return the URL of a migrated database; modules that run on both databases override it."""
    return sqlite_url(tmp_path)


@pytest.fixture
async def make_world(world_url: str, embedded_s3: EmbeddedS3, s3_client: Any, bucket: str) -> AsyncIterator[MakeWorld]:
    """Return a function that opens a broker on the test's own database and bucket; `bucket_class` may interfere."""
    opened: list[World] = []
    clock = Clock()

    def make(
        bucket_class: type[Bucket] = Bucket,
        *,
        announce_to: tuple[str, ...] = (),
        probe: Probe | None = None,
        max_video_seconds: int = 300,
        max_size: int = 1_000_000,
        endpoint_url: str = embedded_s3.endpoint_url,
        public_endpoint_url: str | None = None,
        timeout_seconds: float = 30,
        pool_size: int = 256,
        stopwatch: Stopwatch = monotonic,
        part_size: int = 16 * 1024**2,
        properties: ObjectProperties = ObjectProperties(),  # noqa: B008 immutable
        **limits: Any,
    ) -> World:
        store = Store(world_url, announce_to=announce_to, clock=clock)
        config = BucketConfig(
            name=bucket,
            region=embedded_s3.region,
            endpoint_url=endpoint_url,
            public_endpoint_url=public_endpoint_url,
            path_style=True,
            credentials=Credentials(embedded_s3.access_key, embedded_s3.secret_key),
            timeout_seconds=timeout_seconds,
            properties=properties,
            pool_size=pool_size,
        )
        gate = bucket_class(config)
        settlement = Settlement(
            store,
            gate,
            grace=timedelta(seconds=GRACE_SECONDS),
            probe=probe,
            max_video_seconds=max_video_seconds,
            clock=clock,
            stopwatch=stopwatch,
        )
        verbs = Lifecycle(
            store,
            gate,
            settlement=settlement,
            rules=Rules(max_size=max_size, part_size=part_size),
            quota=Quota(**limits),
            policy_seconds=POLICY_SECONDS,
            clock=clock,
        )
        world = World(
            store, gate, settlement, verbs, Sweep(store, settlement, rest_seconds=1, clock=clock), clock, s3_client
        )
        opened.append(world)
        return world

    yield make
    for world in opened:
        await world.settlement.close()
        await world.store.close()
        await world.bucket.close()


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world()


async def outcome_of(call: Any) -> str:
    """Return the outcome of a verb: the state of the returned media, or the name of the error."""
    try:
        answer = await call
    except BrokerError as error:
        return type(error).__name__
    return str(answer.media.state) if answer is not None else "done"


@contextmanager
def overtaken(store: Store, **changes: Any) -> Iterator[None]:
    """Let the next amendment lose a race: another caller makes `changes` just before it."""
    amend = store.amend

    async def late(media: Media, **own: Any) -> Media | None:
        store.amend = amend  # type: ignore[method-assign]
        assert await amend(media, **changes) is not None
        return await amend(media, **own)

    store.amend = late  # type: ignore[method-assign]
    yield
    assert store.amend == amend, "no amendment was made"
