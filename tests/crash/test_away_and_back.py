"""Outages of the database under a running broker, and the orderly end of a broker."""

import asyncio
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from broker.dev.s3 import EmbeddedS3, Fault
from broker.domain.media import State
from broker.store.connections.address import parse_url
from tests.crash.client import MP4, bearer
from tests.crash.conftest import Overrides, World
from tests.support.postgres import PostgreSQL


@pytest.fixture
def on_postgresql(
    restarted_postgresql: PostgreSQL, migrated_template: str, overrides: Overrides, s3_client: Any
) -> Iterator[World]:
    """Return a broker on a database server that the test may stop."""
    url = restarted_postgresql.url(restarted_postgresql.create(migrated_template))
    engine = sa.create_engine(parse_url(url), poolclass=sa.NullPool)
    with httpx.Client(timeout=30) as http:
        world = World(overrides(url, database_timeout_seconds=2), engine, s3_client, http)
        yield world
    world.broker.kill()


@pytest.mark.parametrize("at_once", [False, True], ids=["stopped", "crashed"])
def test_an_unavailable_database_is_503_with_nothing_signed_until_it_is_back(
    on_postgresql: World, restarted_postgresql: PostgreSQL, at_once: bool
) -> None:
    client = on_postgresql.client
    first = client.issue()
    client.upload(first)
    media_id = first["media_id"]
    restarted_postgresql.stop(at_once=at_once)
    for method, path, body in (
        ("POST", "/upload", MP4),
        ("POST", f"/{media_id}/complete", None),
        ("GET", f"/{media_id}", None),
        ("GET", "/", None),
        ("DELETE", f"/{media_id}", None),
    ):
        refused = client.ask(method, path, json=body)
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:s3-media:problem:database-away")
        assert int(refused.headers["retry-after"]) > 0
        assert "signature" not in refused.text.lower()
    origin = on_postgresql.broker.origin
    assert client.http.get(f"{origin}/readyz").status_code == 503
    assert client.http.get(f"{origin}/healthz").status_code == 200
    restarted_postgresql.start()
    assert client.http.get(f"{origin}/readyz").status_code == 200
    assert client.complete(media_id).status_code == 200
    second = client.issue()
    client.upload(second)
    assert client.complete(second["media_id"]).status_code == 200
    assert on_postgresql.wrong_once_settled() == []


async def test_requests_in_flight_are_answered_and_every_record_was_acknowledged(
    world: World, embedded_s3: EmbeddedS3
) -> None:
    uploads = [world.client.issue() for _ in range(4)]
    for upload in uploads:
        world.client.upload(upload)
    embedded_s3.order_fault(Fault(operation="CopyObject", delay_seconds=4, count=len(uploads)))
    told = {upload["media_id"] for upload in uploads}
    async with httpx.AsyncClient(timeout=30, limits=httpx.Limits(max_connections=100, keepalive_expiry=None)) as http:

        async def complete(media_id: str) -> httpx.Response:
            return await http.post(f"{world.broker.url}/{media_id}/complete", headers=bearer("anna"))

        async def issue_on() -> None:
            while True:
                try:
                    answer = await http.post(f"{world.broker.url}/upload", json=MP4, headers=bearer("anna"))
                except httpx.TransportError:
                    return
                assert answer.status_code == 201, answer.text
                told.add(answer.json()["media_id"])

        completing = [asyncio.create_task(complete(upload["media_id"])) for upload in uploads]
        issuing = [asyncio.create_task(issue_on()) for _ in range(16)]
        while sum(media.state is State.PROMOTING for media in world.find().media) < len(uploads):
            await asyncio.sleep(0.02)
        await asyncio.to_thread(world.broker.end)
        assert [answer.status_code for answer in await asyncio.gather(*completing)] == [200] * len(uploads)
        await asyncio.gather(*issuing)
    assert world.broker.process.exitcode in (0, -signal.SIGTERM)
    assert len(told) > 2 * len(uploads)
    assert {str(media.id) for media in world.find().media} == told
    assert world.wrong() == []
