"""Two servers and two workers behind a proxy that delays, loses, repeats and reorders their requests to S3.

Clients post, replay their policies, complete and delete meanwhile. In the end every ready media plays the judged bytes,
and nothing is left over. `BROKER_TEST_MEDIA=5000` makes it long, `BROKER_TEST_SEED` repeats a run.
"""

import asyncio
import hashlib
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
import sqlalchemy as sa

from broker.aws.bucket import Bucket, BucketConfig
from broker.dev.s3 import EmbeddedS3
from broker.domain.access.quota import Quota
from broker.domain.media import State
from broker.domain.rules import Rules
from broker.domain.s3.sigv4 import Credentials
from broker.errors import (
    MediaNotFound,
    NothingUploaded,
    PromotionRunning,
    StorageUnavailable,
    UploadExpired,
    UploadRejected,
)
from broker.lifecycle.requests import Issued, UploadRequest
from broker.lifecycle.settlement import Settlement
from broker.lifecycle.verbs import Lifecycle
from broker.store import Store
from broker.store.connections.address import parse_url
from broker.worker.sweep import Sweep
from tests.crash.invariants import find_all, unsettled
from tests.support.dying import Clock
from tests.support.s3_proxy import PASS, Fate, Request, S3Proxy, chaos

MEDIA = int(os.environ.get("BROKER_TEST_MEDIA", "24"))
SEED = int(os.environ.get("BROKER_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
AT_ONCE = 20
POLICY_SECONDS, GRACE = 8, timedelta(seconds=1)
S3_TIMEOUT_SECONDS = 0.6
LONGEST_HOLD_SECONDS = 2.5
SPOILT_SHARE = 0.12
COMPLETES = 12
"""The number of times that a client asks for the confirmation of one media."""
LATER = (2, 4, 30, 60)
"""Hours after which the sweep settles the rest: policies, leases, last purges, and two last looks at expired media."""
UNCERTAIN = (NothingUploaded, PromotionRunning, StorageUnavailable)


@dataclass
class Replica:
    """One server or worker, with its own connections and its own clock."""

    store: Store
    bucket: Bucket
    settlement: Settlement
    verbs: Lifecycle
    sweep: Sweep
    clock: Clock


@asynccontextmanager
async def replica(database_url: str, config: BucketConfig) -> AsyncIterator[Replica]:
    """Open a replica, and close it in order."""
    clock = Clock()
    store = Store(database_url, timeout_seconds=30, clock=clock)
    bucket = await asyncio.to_thread(Bucket, config)
    settlement = Settlement(store, bucket, grace=GRACE, clock=clock)
    verbs = Lifecycle(
        store,
        bucket,
        settlement=settlement,
        rules=Rules(),
        quota=Quota(),
        policy_seconds=POLICY_SECONDS,
        clock=clock,
    )
    yield Replica(store, bucket, settlement, verbs, Sweep(store, settlement, rest_seconds=0.2, clock=clock), clock)
    await settlement.close()
    await store.close()
    await bucket.close()


@dataclass
class Clients:
    """Clients of all servers, and the answers that they got."""

    servers: list[Replica]
    http: httpx.AsyncClient
    chance: random.Random
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    etags: dict[UUID, str | None] = field(default_factory=dict)
    """The ETag that a client got for each ready media."""
    deleted: set[UUID] = field(default_factory=set)

    async def live(self, number: int) -> None:
        """Upload one media, and use it in one of several ways."""
        async with self.turns:
            issued = await self._server().verbs.issue(UploadRequest(content_type="video/mp4"), f"owner-{number % 5}")
            if not await self._post(issued, f"media {number}".encode() * 50):
                return
            media_id = issued.media.id
            other = f"replay of {number}".encode() * 60
            match number % 6:
                case 0 | 1:
                    await self._complete(media_id)
                case 2:
                    await asyncio.gather(self._complete(media_id), self._complete(media_id), self._post(issued, other))
                case 3:
                    await asyncio.gather(self._complete(media_id), self._delete(media_id), self._post(issued, other))
                case 4:
                    await self._complete(media_id)
                    await self._post(issued, other)
                    await self._complete(media_id)
                    await self._delete(media_id)
                    await self._post(issued, other)
                case _:
                    await self._post(issued, other)

    async def _complete(self, media_id: UUID) -> None:
        for _ in range(COMPLETES):
            try:
                playback = await self._server().verbs.complete(media_id, None)
            except UNCERTAIN:
                await asyncio.sleep(self.chance.uniform(0, 0.3))
            except (UploadRejected, UploadExpired):
                return
            except MediaNotFound:
                assert media_id in self.deleted
                return
            else:
                assert self.etags.setdefault(media_id, playback.media.etag) == playback.media.etag
                return

    async def _delete(self, media_id: UUID) -> None:
        self.deleted.add(media_id)
        await self._server().verbs.delete(media_id, None)

    async def _post(self, issued: Issued, body: bytes) -> bool:
        """Post a form, up to three times; return whether S3 acknowledged it."""
        for _ in range(3):
            try:
                answer = await self.http.post(issued.url, data=issued.fields, files={"file": ("a.mp4", body)})
            except httpx.TransportError:
                continue
            return answer.status_code == 201
        return False

    def _server(self) -> Replica:
        return self.chance.choice(self.servers)


async def jump(replicas: list[Replica], chance: random.Random) -> None:
    """Let the clock of one replica after another jump by up to an hour, in either direction."""
    while True:
        await asyncio.sleep(chance.uniform(0.1, 0.5))
        chance.choice(replicas).clock.moved = timedelta(seconds=chance.choice((0, chance.uniform(-3600, 3600))))


async def _pass(request: Request) -> Fate:
    return PASS


@pytest.mark.parametrize("jumping", [False, True], ids=["clocks agree", "clocks jump"])
@pytest.mark.timeout(60 + MEDIA)
async def test_every_ready_media_plays_the_judged_bytes_and_nothing_is_left_over(
    database_url: str, jumping: bool, embedded_s3: EmbeddedS3, s3_client: Any, bucket: str
) -> None:
    chance = random.Random(SEED)  # noqa: S311
    proxy = S3Proxy(embedded_s3.endpoint_url, chaos(SEED, share=SPOILT_SHARE, longest=LONGEST_HOLD_SECONDS))
    print(f"BROKER_TEST_SEED={SEED}")  # noqa: T201 shown if the test fails
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(proxy.serving())
        config = BucketConfig(
            name=bucket,
            region=embedded_s3.region,
            endpoint_url=proxy.url,
            path_style=True,
            credentials=Credentials(embedded_s3.access_key, embedded_s3.secret_key),
            timeout_seconds=S3_TIMEOUT_SECONDS,
        )
        replicas = [await stack.enter_async_context(replica(database_url, config)) for _ in range(4)]
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=S3_TIMEOUT_SECONDS, trust_env=False))
        clients = Clients(replicas[:2], http, chance)
        sweeping = [asyncio.create_task(worker.sweep.run()) for worker in replicas[2:]]
        jumps = asyncio.create_task(jump(replicas, chance)) if jumping else None
        await asyncio.gather(*(clients.live(number) for number in range(MEDIA)))
        for worker in replicas[2:]:
            await worker.sweep.stop()
        await asyncio.gather(*sweeping)
        if jumps is not None:
            jumps.cancel()
        proxy.decide = _pass
        for each in replicas:
            await each.settlement.close()
        await proxy.drained()
        assert proxy.spoilt > MEDIA / 10

        last = replicas[0]
        for hours in LATER:
            last.clock.moved = timedelta(hours=hours)
            while await last.sweep.once():
                pass
            await last.settlement.close()
        engine = sa.create_engine(parse_url(database_url), poolclass=sa.NullPool)
        found = find_all(engine, s3_client, bucket)
        engine.dispose()
        assert list(unsettled(found, datetime.now(UTC) + timedelta(hours=LATER[-1]))) == []

        states = Counter(media.state for media in found.media)
        assert len(found.media) == MEDIA
        assert states[State.READY] > MEDIA / 4
        last.clock.moved = timedelta()
        for media in found.media:
            if media.id in clients.deleted:
                assert media.state is State.DELETED
            elif media.id in clients.etags:
                assert (media.state, media.etag) == (State.READY, clients.etags[media.id])
            if media.state is State.READY:
                playback = await last.verbs.playback(media.id, None, expires_in=60, download=False)
                played = await http.get(playback.signed_url, timeout=10)
                assert hashlib.md5(played.content, usedforsecurity=False).hexdigest() == media.etag
