"""Two servers and two workers on one PostgreSQL, with every request sent to both servers at once."""

import asyncio
import json
import os
import random
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote_plus

import boto3
import httpx
import pytest
import sqlalchemy as sa

from broker.dev.s3 import EmbeddedS3
from broker.domain.keys import current_key
from broker.domain.media import State
from broker.store.connections.address import parse_url
from broker.store.schema import media as table
from tests.crash.client import MP4, bearer
from tests.crash.conftest import LONG, Overrides
from tests.crash.invariants import UNDER_WAY, find_all, unsettled
from tests.crash.processes import Broker, start_broker, start_worker
from tests.support.dying import OTHER, VIDEO
from tests.support.postgres import PostgreSQL

UPLOADS = int(os.environ.get("BROKER_TEST_UPLOADS", "250"))
AT_ONCE = 24
OWNERS = 7
POLICY_SECONDS, GRACE_SECONDS = 10, 2
"""Short, so that media are due for the workers while clients still use them."""
ORDERLY = {200, 409}
"""The answers to a complete of an uploaded media: ready, or a running promotion."""


@pytest.fixture
def copies(embedded_s3: EmbeddedS3, s3_client: Any, bucket: str) -> Iterator[Callable[[], Counter[str]]]:
    """Return a function that counts, by key, the copies that took effect: S3 sends an event for each.

    The events are read all the time. Moto walks through the queue for each message that is sent, received or deleted:
    with 1,000 in it a copy takes 15 ms of its time instead of 2, and receiving ten takes 450 ms.
    """
    sqs = boto3.client(
        "sqs",
        endpoint_url=embedded_s3.endpoint_url,
        aws_access_key_id=embedded_s3.access_key,
        aws_secret_access_key=embedded_s3.secret_key,
        region_name=embedded_s3.region,
    )
    queue = sqs.create_queue(QueueName=f"copies-of-{bucket}")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    configuration = {"QueueArn": arn, "Events": ["s3:ObjectCreated:Copy"]}
    s3_client.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"QueueConfigurations": [configuration]}
    )
    counted: Counter[str] = Counter()
    stopped = threading.Event()

    def receive() -> bool:
        messages = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
        for message in messages:
            records = json.loads(message["Body"]).get("Records", ())
            counted.update(unquote_plus(record["s3"]["object"]["key"]) for record in records)
        if messages:
            entries = [{"Id": message["MessageId"], "ReceiptHandle": message["ReceiptHandle"]} for message in messages]
            sqs.delete_message_batch(QueueUrl=queue, Entries=entries)
        return bool(messages)

    def receive_until_stopped() -> None:
        while receive() or not stopped.wait(0.2):
            pass

    receiving = threading.Thread(target=receive_until_stopped, daemon=True)
    receiving.start()

    def count() -> Counter[str]:
        stopped.set()
        receiving.join()
        while receive():
            pass
        return counted

    yield count
    stopped.set()
    receiving.join()


@dataclass
class Clients:
    """Many clients of two brokers, and the outcomes of their media."""

    http: httpx.AsyncClient
    brokers: list[Broker]
    uploaded: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    unwanted: set[str] = field(default_factory=set)
    etags: dict[str, str] = field(default_factory=dict)
    """The ETag that was answered for each ready media."""
    statuses: Counter[int] = field(default_factory=Counter)
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def live(self, number: int) -> None:
        """Upload one media, and use it in one of several ways, orderly or not."""
        owner = f"owner-{number % OWNERS}"
        async with self.turns:
            issued = (await self._ask(owner, "POST", "/upload", MP4)).json()
            if number % 10 == 9 or not await self._post(issued, VIDEO):
                return
        self.uploaded.add(issued["media_id"])
        if number % 5 == 1:
            # Until it is due for the workers, too.
            await asyncio.sleep(POLICY_SECONDS + GRACE_SECONDS - 0.5 + random.random())  # noqa: S311
        async with self.turns:
            await self._go_on(number % 5, owner, issued)

    async def _go_on(self, way: int, owner: str, issued: dict[str, Any]) -> None:
        media_id = issued["media_id"]
        match way:
            case 0 | 1:
                await self._complete_on_both(owner, media_id)
                await self._complete_on_both(owner, media_id)
            case 2:
                self.unwanted.add(media_id)
                delete = self._ask(owner, "DELETE", f"/{media_id}")
                await asyncio.gather(self._complete_on_both(owner, media_id), delete)
            case 3:
                await asyncio.gather(self._complete_on_both(owner, media_id), self._post(issued, OTHER))
                await self._complete_on_both(owner, media_id)
            case _:
                self.silent.add(media_id)

    async def _complete_on_both(self, owner: str, media_id: str) -> None:
        asked = [self._ask(owner, "POST", f"/{media_id}/complete", broker=broker) for broker in self.brokers]
        for answer in await asyncio.gather(*asked):
            if answer.status_code == 200:
                assert self.etags.setdefault(media_id, answer.json()["etag"]) == answer.json()["etag"]
            else:
                assert answer.status_code in ORDERLY or media_id in self.unwanted, answer.text

    async def _ask(
        self, owner: str, method: str, path: str, json: object = None, *, broker: Broker | None = None
    ) -> httpx.Response:
        url = (broker or random.choice(self.brokers)).url + path  # noqa: S311
        answer = await self.http.request(method, url, json=json, headers=bearer(owner))
        self.statuses[answer.status_code] += 1
        assert answer.status_code < 500, answer.text
        return answer

    async def _post(self, issued: dict[str, Any], body: bytes) -> bool:
        """Post a form; return False if the short policy has expired on a slow machine."""
        form = issued["upload"]
        answer = await self.http.post(form["url"], data=form["fields"], files={"file": ("a.mp4", body)})
        assert answer.status_code in (201, 403), answer.text
        return answer.status_code == 201


@asynccontextmanager
async def replicas(settings: dict[str, Any]) -> AsyncIterator[list[Broker]]:
    """Run two servers and two workers, and stop the workers in order."""
    brokers = [start_broker(settings) for _ in range(2)]
    workers = [start_worker(settings) for _ in range(2)]
    try:
        yield brokers
        for worker in workers:
            worker.terminate()
        for worker in workers:
            await asyncio.to_thread(worker.join, 30)
            assert worker.exitcode == 0
    finally:
        for process in [*workers, *(broker.process for broker in brokers)]:
            process.kill()


@pytest.fixture
def url(postgresql: PostgreSQL, migrated_template: str) -> Iterator[str]:
    """Return the URL of a database for all of them."""
    name = postgresql.create(migrated_template)
    yield postgresql.url(name)
    postgresql.drop(name)


def _under_way(engine: sa.Engine) -> bool:
    with engine.connect() as connection:
        return connection.execute(sa.select(sa.exists().where(table.c.state.in_(UNDER_WAY)))).scalar_one()


@pytest.mark.timeout(60 + UPLOADS)
async def test_no_media_is_promoted_twice_lost_or_counted_wrongly(
    url: str, overrides: Overrides, bucket: str, s3_client: Any, copies: Callable[[], Counter[str]]
) -> None:
    settings = overrides(
        url,
        policy_seconds=POLICY_SECONDS,
        grace_seconds=GRACE_SECONDS,
        sweep_seconds=0.2,
        database_timeout_seconds=20,
        s3_timeout_seconds=30,
    )
    engine = sa.create_engine(parse_url(url), poolclass=sa.NullPool)
    # Where the machine stands still for longer than the expiry, httpx closes connections that requests have just got.
    limits = httpx.Limits(max_connections=4 * AT_ONCE, keepalive_expiry=None)
    async with replicas(settings) as brokers, httpx.AsyncClient(timeout=60, limits=limits) as http:
        clients = Clients(http, brokers)
        await asyncio.gather(*(clients.live(number) for number in range(UPLOADS)))
        while _under_way(engine):
            await asyncio.sleep(0.5)
    found = find_all(engine, s3_client, bucket)
    states = {str(media.id): media.state for media in found.media}
    assert len(states) == UPLOADS
    assert len(clients.uploaded) > UPLOADS / 2
    assert len(clients.silent) > UPLOADS / 20
    assert all(states[media_id] is State.READY for media_id in clients.uploaded - clients.unwanted)
    assert {media.etag for media in found.media if str(media.id) in clients.etags} <= {*clients.etags.values()}

    with_one_more = start_broker(settings)
    for clock in (LONG, 2 * LONG):
        httpx.post(f"{with_one_more.origin}/sweep", headers={"x-clock": str(clock)}, timeout=60).raise_for_status()
    with_one_more.kill()
    settled = find_all(engine, s3_client, bucket)
    assert list(unsettled(settled, datetime.now(UTC) + timedelta(seconds=2 * LONG))) == []
    for media in settled.media:
        assert media.state in (State.READY, State.DELETED, State.EXPIRED)
        assert media.etag == clients.etags.get(str(media.id), media.etag)
    copied = copies()
    finals = {current_key(media) for media in settled.media if media.state is State.READY}
    assert finals <= set(copied)
    assert set(copied.values()) == {1}
    engine.dispose()
