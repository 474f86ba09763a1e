"""A PostgreSQL server that is stopped in the middle of its work: each wait for it is bounded in the client, too."""

import asyncio
import time
from pathlib import Path

import httpx
import pytest

from broker.store import Store, migrate
from broker.store.connections.address import parse_url
from broker.store.connections.deadlines import Deadlines
from broker.store.connections.engine import writing_engine
from tests.support.postgres import PostgreSQL
from tests.support.samples import UNLIMITED, pending
from tests.support.serving import bearing, issued, served, token

TIMEOUT = 2
MARGIN = 5.0
"""What a busy machine may take beyond the time-out."""
HEADERS = bearing(token())


async def test_every_request_is_answered_in_time_while_the_server_is_frozen_and_served_afterwards(
    tmp_path: Path, postgresql: PostgreSQL, postgresql_url: str
) -> None:
    migrate(postgresql_url)
    async with served(tmp_path, database_url=postgresql_url, database_timeout_seconds=TIMEOUT) as client:
        media_id = await issued(client, HEADERS)
        await asyncio.gather(*(client.get("/", headers=HEADERS) for _ in range(50)))  # every connection is warm
        requests = [
            ("POST", "/upload", {"content_type": "video/mp4"}),
            ("GET", f"/{media_id}", None),
            ("DELETE", f"/{media_id}", None),
            ("GET", "/", None),
            ("GET", "http://broker.example/readyz", None),
        ]

        async def timed(method: str, path: str, body: dict[str, str] | None) -> tuple[int, float]:
            began = time.monotonic()
            answer = await client.request(method, path, json=body, headers=HEADERS)
            return answer.status_code, time.monotonic() - began

        with postgresql.frozen():
            for _ in range(3):  # the later ones meet threads and connections that are still stuck
                answers = await asyncio.gather(*(timed(*request) for request in requests * 4))
                assert {status for status, _ in answers} == {503}
                assert max(seconds for _, seconds in answers) < TIMEOUT + MARGIN
        await _until_served(client, media_id)


async def _until_served(client: httpx.AsyncClient, media_id: str) -> None:
    async with asyncio.timeout(15):
        while (await client.get("http://broker.example/readyz")).status_code != 200:
            await asyncio.sleep(0.1)
    assert (await client.get(f"/{media_id}", headers=HEADERS)).status_code in {404, 409}  # it may have been deleted
    await issued(client, HEADERS)


async def test_a_store_closes_in_time_while_the_server_is_frozen(postgresql: PostgreSQL, postgresql_url: str) -> None:
    migrate(postgresql_url)
    store = Store(postgresql_url, timeout_seconds=1)
    await store.add(pending(), UNLIMITED)
    await store.ping()
    with postgresql.frozen():
        waiting = [asyncio.ensure_future(store.ping()), asyncio.ensure_future(store.usage("ann"))]
        began = time.monotonic()
        await asyncio.wait(waiting)
        await store.close()
        assert time.monotonic() - began < 2 * 1 + 2 + MARGIN  # the deadline of a thread, and that of a connection
    assert all(task.exception() is not None for task in waiting)


@pytest.mark.parametrize("seconds", [0.5])
def test_a_connection_that_keeps_its_deadline_stays_usable(postgresql_url: str, seconds: float) -> None:
    engine = writing_engine(parse_url(postgresql_url), timeout_seconds=5)
    deadlines = Deadlines(seconds)
    deadlines.watch(engine)
    with deadlines.limit(), engine.connect() as connection:
        first = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
    time.sleep(2 * seconds)  # an unused connection has no deadline
    with deadlines.limit(), engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT pg_backend_pid()").scalar() == first
    deadlines.close()
    engine.dispose()
