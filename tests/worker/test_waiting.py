"""A page waits for `ready` in one request."""

import asyncio
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest
from fastapi import FastAPI

from broker import load_settings
from broker.api.state import STATE_NAME
from broker.app import PREFIX, create_app
from broker.dev.s3 import EmbeddedS3
from broker.lifecycle import waiting as waits
from broker.lifecycle.waiting import FIRST_REST_SECONDS, MAX_WAIT_SECONDS, MAX_WAITERS_PER_CALLER, Waiting
from broker.store import Store
from tests.support.databases import sqlite_url
from tests.support.samples import UNLIMITED, pending
from tests.support.world import VIDEO

KEY = "a-key-of-the-tests-and-of-another-else"
LONG_WAIT = 20
"""Seconds, of which a wait that ends by a condition takes few."""


class Page:
    """A page of one user."""

    def __init__(self, client: httpx.AsyncClient, owner: str, scope: str = "media:upload media:read") -> None:
        token = jwt.encode({"sub": owner, "exp": 4e9, "scope": scope}, KEY)
        self._client = client
        self._headers = {"Authorization": f"Bearer {token}"}

    async def ask(self, method: str, path: str, **parts: Any) -> httpx.Response:
        return await self._client.request(method, f"{PREFIX}{path}", headers=self._headers, **parts)

    async def uploaded(self) -> str:
        issued = (await self.ask("POST", "/upload", json={"content_type": "video/mp4"})).json()
        async with httpx.AsyncClient() as browser:
            form = issued["upload"]
            assert (await browser.post(form["url"], data=form["fields"], files={"file": VIDEO})).status_code == 201
        media_id: str = issued["media_id"]
        return media_id


@pytest.fixture
async def client(embedded_s3: EmbeddedS3, bucket: str, tmp_path: Any) -> AsyncIterator[httpx.AsyncClient]:
    settings = load_settings(
        None,
        bucket_name=bucket,
        cloud_storage_provider="s3",
        region=embedded_s3.region,
        access_key_id=embedded_s3.access_key,
        secret_access_key=embedded_s3.secret_key,
        s3_endpoint_url=embedded_s3.endpoint_url,
        s3_path_style=True,
        database_url=sqlite_url(tmp_path),
        secret_key=KEY,
    )
    app: FastAPI = create_app(settings)

    async with app.router.lifespan_context(app) as state:
        assert state is not None
        assert STATE_NAME in state

        async def serve(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": dict(state)}, receive, send)

        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(serve), base_url="http://broker", timeout=60
        ) as made:
            yield made


@pytest.fixture
def anna(client: httpx.AsyncClient) -> Page:
    return Page(client, "anna")


async def test_the_response_comes_as_soon_as_the_media_is_ready(anna: Page) -> None:
    media_id = await anna.uploaded()
    waiting = asyncio.create_task(anna.ask("GET", f"/{media_id}", params={"wait": LONG_WAIT}))
    await asyncio.sleep(0.5)
    assert not waiting.done()
    assert (await anna.ask("POST", f"/{media_id}/complete")).status_code == 200
    began = time.monotonic()
    answer = await waiting
    assert (answer.status_code, answer.json()["status"]) == (200, "ready")
    assert time.monotonic() - began < LONG_WAIT / 2


async def test_after_the_wait_the_response_has_the_state_of_the_media(anna: Page) -> None:
    media_id = await anna.uploaded()
    began = time.monotonic()
    answer = await anna.ask("GET", f"/{media_id}", params={"wait": 1})
    assert (answer.status_code, answer.json()["media_status"]) == (409, "pending")
    assert answer.headers["Retry-After"] == "2"
    assert 1 <= time.monotonic() - began < LONG_WAIT / 2


async def test_a_media_that_will_never_be_ready_is_not_waited_for(anna: Page) -> None:
    issued = (await anna.ask("POST", "/upload", json={"content_type": "video/mp4", "size": len(VIDEO)})).json()
    media_id = issued["media_id"]
    assert (await anna.ask("POST", f"/{media_id}/complete")).status_code == 409
    fresh = await anna.uploaded()
    began = time.monotonic()
    for path in (f"/{uuid4()}", "/not-an-id"):
        assert (await anna.ask("GET", path, params={"wait": LONG_WAIT})).status_code in {404, 422}
    assert (await anna.ask("POST", f"/{fresh}/complete")).status_code == 200
    assert (await anna.ask("GET", f"/{fresh}", params={"wait": LONG_WAIT})).status_code == 200
    assert time.monotonic() - began < LONG_WAIT / 2


async def test_a_foreign_media_and_an_absent_one_get_the_same_response_at_once(
    anna: Page, client: httpx.AsyncClient
) -> None:
    media_id = await anna.uploaded()
    stranger = Page(client, "bert")
    began = time.monotonic()
    foreign = await stranger.ask("GET", f"/{media_id}", params={"wait": LONG_WAIT})
    absent = await stranger.ask("GET", f"/{uuid4()}", params={"wait": LONG_WAIT})
    assert foreign.status_code == 404
    assert foreign.json() == absent.json()
    assert time.monotonic() - began < LONG_WAIT / 2
    forbidden = await Page(client, "anna", "media:upload").ask("GET", f"/{media_id}", params={"wait": LONG_WAIT})
    assert forbidden.status_code == 403


@pytest.mark.parametrize("wait", ["-1", "26", "soon"])
async def test_a_wait_is_bounded(wait: str, anna: Page) -> None:
    answer = await anna.ask("GET", f"/{uuid4()}", params={"wait": wait})
    assert (answer.status_code, answer.json()["errors"][0]["at"]) == (422, "query.wait")


@pytest.fixture
async def store(tmp_path: Any) -> AsyncIterator[Store]:
    store = Store(sqlite_url(tmp_path))
    yield store
    await store.close()


async def always() -> bool:
    return True


async def test_the_waits_of_one_owner_are_bounded_and_do_not_affect_other_owners(store: Store) -> None:
    media = await store.add(pending(), UNLIMITED)
    waiting = Waiting(store)

    is_connected = True

    async def wanted() -> bool:
        return is_connected

    def wait(waiter: str) -> asyncio.Task[None]:
        asked = waiting.until_settled(media.id, None, waiter=waiter, seconds=LONG_WAIT, wanted=wanted)
        return asyncio.create_task(asked)

    of_ann, of_bert = [wait("ann") for _ in range(MAX_WAITERS_PER_CALLER + 5)], wait("bert")
    while sum(task.done() for task in of_ann) < 5:
        await asyncio.sleep(0.01)
    await asyncio.sleep(2 * FIRST_REST_SECONDS)
    assert sum(task.done() for task in of_ann) == 5
    assert not of_bert.done()
    is_connected = False
    await asyncio.gather(*of_ann, of_bert)
    is_connected = True
    again = wait("ann")
    await asyncio.sleep(2 * FIRST_REST_SECONDS)
    assert not again.done()
    waiting.end()
    await again


@pytest.mark.parametrize(("seconds", "ends"), [(20, 20.0), (100, float(MAX_WAIT_SECONDS))])
async def test_the_rests_between_looks_grow_to_two_seconds_until_the_wait_ends(
    store: Store, monkeypatch: pytest.MonkeyPatch, seconds: float, ends: float
) -> None:
    now, rests = [0.0], []

    def rest(seconds: float) -> asyncio.Timeout:
        rests.append(seconds)
        now[0] += seconds
        return asyncio.timeout(0)

    monkeypatch.setattr(waits, "asyncio", SimpleNamespace(Event=asyncio.Event, timeout=rest))
    monkeypatch.setattr(waits, "monotonic", lambda: now[0])
    media = await store.add(pending(), UNLIMITED)
    await Waiting(store).until_settled(media.id, None, waiter="ann", seconds=seconds, wanted=always)
    assert rests[:8] == [0.25, 0.375, 0.5625, 0.84375, 1.265625, 1.8984375, 2.0, 2.0]
    assert max(rests) == 2
    assert now == [ends]


async def test_a_wait_ends_when_its_client_disconnects(store: Store) -> None:
    media = await store.add(pending(), UNLIMITED)

    async def never() -> bool:
        return False

    began = time.monotonic()
    await Waiting(store).until_settled(media.id, None, waiter="ann", seconds=LONG_WAIT, wanted=never)
    assert time.monotonic() - began < LONG_WAIT / 2


async def test_waits_end_when_the_process_stops(store: Store) -> None:
    media = await store.add(pending(), UNLIMITED)
    waiting = Waiting(store)
    began = time.monotonic()
    asyncio.get_running_loop().call_later(0.3, waiting.end)
    for _ in range(2):
        await waiting.until_settled(media.id, None, waiter="ann", seconds=LONG_WAIT, wanted=always)
    assert 0.2 < time.monotonic() - began < LONG_WAIT / 2


async def test_many_waits_leave_the_database_to_other_requests(store: Store) -> None:
    media = await store.add(pending(), UNLIMITED)
    waiting = Waiting(store)
    waits = [
        asyncio.create_task(waiting.until_settled(media.id, None, waiter=str(number), seconds=LONG_WAIT, wanted=always))
        for number in range(500)
    ]
    await asyncio.sleep(2 * FIRST_REST_SECONDS)
    await asyncio.gather(*(store.add(pending(), UNLIMITED) for _ in range(20)))
    assert not any(wait.done() for wait in waits)
    waiting.end()
    await asyncio.gather(*waits)
