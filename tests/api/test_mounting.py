"""A host application's dependencies on the broker's routes: each runs once, before the body, and its refusal wins."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, BackgroundTasks, Body, Depends, FastAPI, HTTPException, Request, Security
from fastapi.routing import iter_route_contexts
from fastapi.security import SecurityScopes
from starlette.types import Message

from broker.api.asgi.demands import Uploader
from broker.app import PREFIX, Application, create_app, create_router
from broker.server.connections import BoundedConnection
from broker.settings import Settings
from tests.support.live import live
from tests.support.serving import bearing, client_of, issued, settings_of, token

UPLOAD = {"content_type": "video/mp4"}
HEADERS = bearing(token())


class Record:
    """The names of the dependencies under test, in the order in which they ran and ended."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.ended: list[str] = []


def on_the_application(settings: Settings, *gates: Any) -> FastAPI:
    host = FastAPI(dependencies=gates)
    host.include_router(create_router(settings), prefix=PREFIX)
    return host


def on_the_inclusion(settings: Settings, *gates: Any) -> FastAPI:
    host = FastAPI()
    host.include_router(create_router(settings), prefix=PREFIX, dependencies=gates)
    return host


def on_a_router_between(settings: Settings, *gates: Any) -> FastAPI:
    between = APIRouter(dependencies=gates)
    between.include_router(create_router(settings), prefix="/s3-media")
    host = FastAPI()
    host.include_router(between, prefix=PREFIX.removesuffix("/s3-media"))
    return host


def on_the_broker_s_own_application(settings: Settings, *gates: Any) -> FastAPI:
    """The application with the fast path to its routes."""
    app = Application(settings, dependencies=gates)
    app.include_router(create_router(settings), prefix=PREFIX)
    return app


Place = Callable[..., FastAPI]
PLACES = (on_the_application, on_the_inclusion, on_a_router_between, on_the_broker_s_own_application)


def gates_of_every_kind(record: Record) -> list[Any]:
    """Return a dependency of each kind; each notes its call by its name."""

    def on_a_thread() -> None:
        assert threading.current_thread() is not threading.main_thread()
        record.calls.append("on a thread")

    async def on_the_loop() -> None:
        record.calls.append("on the loop")

    async def slow() -> None:
        turn = asyncio.Event()
        asyncio.get_running_loop().call_later(0.01, turn.set)
        await turn.wait()
        record.calls.append("slow")

    async def yielding() -> AsyncIterator[None]:
        record.calls.append("yielding")
        yield
        record.ended.append("yielding")

    def yielding_on_a_thread() -> Iterator[None]:
        record.calls.append("yielding on a thread")
        yield
        record.ended.append("yielding on a thread")

    async def with_scopes(scopes: SecurityScopes) -> None:
        record.calls.append(f"with scopes {scopes.scopes}")

    async def session() -> str:
        record.calls.append("session")
        return "session"

    async def nesting(first: Annotated[str, Depends(session)], second: Annotated[str, Depends(session)]) -> None:
        record.calls.append(f"nesting {first} {second}")

    return [
        Depends(on_a_thread),
        Depends(on_the_loop),
        Depends(slow),
        Depends(yielding),
        Depends(yielding_on_a_thread, scope="function"),
        Security(with_scopes, scopes=["videos"]),
        Depends(nesting),
    ]


CALLS = [
    "on a thread",
    "on the loop",
    "slow",
    "yielding",
    "yielding on a thread",
    "with scopes ['videos']",
    "session",
    "nesting session session",
]


def routes(host: FastAPI) -> list[tuple[str, str]]:
    """Return the method and path of each of the broker's routes."""
    requests = [
        (method, context.path)
        for context in iter_route_contexts(host.routes)
        if context.path is not None and context.path.startswith(f"{PREFIX}/")
        for method in sorted(context.methods or ())
    ]
    assert len(requests) >= 8
    return requests


async def requested(client: httpx.AsyncClient, method: str, path: str, media_id: str) -> httpx.Response:
    body = UPLOAD if method == "POST" and "{" not in path else None
    filled = path.replace("{media_id}", media_id).replace("{state}", "state")
    return await client.request(method, filled, headers=HEADERS, json=body)


async def statuses(app: FastAPI, media_id: str) -> dict[tuple[str, str], int]:
    async with client_of(app) as client:
        # The deletion comes last, so that the media is there for the others.
        order = sorted(routes(app), key=lambda route: route[0] == "DELETE")
        return {route: (await requested(client, *route, media_id)).status_code for route in order}


async def a_media(settings: Settings) -> str:
    async with client_of(create_app(settings)) as client:
        client.base_url = httpx.URL(f"http://broker.example{PREFIX}")
        return await issued(client, HEADERS)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
async def test_each_dependency_runs_once_on_every_route_and_changes_no_answer(tmp_path: Path, place: Place) -> None:
    settings, record = settings_of(tmp_path), Record()
    expected = await statuses(create_app(settings), await a_media(settings))
    assert len(expected) > 10
    host = place(settings, *gates_of_every_kind(record))
    assert set(routes(host)) == set(expected)
    media_id = await a_media(settings)
    async with client_of(host) as client:
        for route in expected:
            record.calls, record.ended = [], []
            answer = await requested(client, *route, media_id)
            assert (answer.status_code, route) == (expected[route], route)
            assert (record.calls, route) == (CALLS, route)
            assert record.ended == ["yielding on a thread", "yielding"]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
async def test_the_refusal_of_a_dependency_wins_on_every_route(tmp_path: Path, place: Place) -> None:
    async def gate() -> None:
        raise HTTPException(418, "the host refuses")

    settings = settings_of(tmp_path)
    media_id = await a_media(settings)
    host = place(settings, Depends(gate))
    async with client_of(host) as client:
        for method, path in routes(host):
            answer = await requested(client, method, path, media_id)
            assert (answer.status_code, path) == (418, path)
            assert method == "HEAD" or answer.json()["detail"] == "the host refuses"
        unauthenticated = await client.post(f"{PREFIX}/upload", content=b"no JSON" * 20_000)
        assert unauthenticated.status_code == 418
    async with client_of(create_app(settings)) as client:
        listed = (await client.get(f"{PREFIX}/", headers=HEADERS)).json()["media"]
    assert [media["media_id"] for media in listed] == [media_id]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
async def test_an_override_runs_in_the_place_of_a_dependency(tmp_path: Path, place: Place) -> None:
    record = Record()

    async def gate() -> None:
        record.calls.append("gate")

    async def replacement() -> None:
        record.calls.append("replacement")

    settings = settings_of(tmp_path)
    host = place(settings, Depends(gate))
    media_id = await a_media(settings)
    host.dependency_overrides[gate] = replacement
    async with client_of(host) as client:
        for route in routes(host):
            record.calls = []
            await requested(client, *route, media_id)
            assert record.calls == ["replacement"]


async def test_the_dependencies_run_in_the_order_of_fastapi(tmp_path: Path) -> None:
    record = Record()

    def named(name: str) -> Any:
        async def gate() -> None:
            record.calls.append(name)

        return Depends(gate)

    between = APIRouter(dependencies=[named("router")])
    between.include_router(create_router(settings_of(tmp_path)), dependencies=[named("inclusion of the broker")])
    host = FastAPI(dependencies=[named("application")])
    host.include_router(between, prefix="/videos", dependencies=[named("inclusion")])
    async with client_of(host) as client:
        assert (await client.post("/videos/upload", json=UPLOAD, headers=HEADERS)).status_code == 201
    assert record.calls == ["application", "inclusion", "router", "inclusion of the broker"]


async def test_a_dependency_runs_before_the_demands_and_before_the_body_is_read(tmp_path: Path) -> None:
    class Read(Exception):
        """The body was read."""

    async def receive() -> Message:
        raise Read

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def gate(request: Request) -> None:
        assert "s3_media.caller" not in request.scope
        raise HTTPException(401, "the host refuses")

    host = on_the_inclusion(settings_of(tmp_path), Depends(gate))
    async with AsyncExitStack() as stack:
        state = await stack.enter_async_context(host.router.lifespan_context(host))
        scope = {
            "type": "http",
            "method": "POST",
            "scheme": "http",
            "path": f"{PREFIX}/upload",
            "query_string": b"",
            "headers": [(b"authorization", HEADERS["Authorization"].encode()), (b"content-length", b"9")],
            "state": dict(state or {}),
        }
        await host(scope, receive, send)
    assert sent[0]["status"] == 401


@pytest.mark.parametrize("on_ours", [False, True])
def test_a_dependency_may_read_the_body_and_leave_work_for_later(tmp_path: Path, on_ours: bool) -> None:
    record = Record()

    async def gate(request: Request, later: BackgroundTasks) -> None:
        record.calls.append((await request.body()).decode())
        later.add_task(record.ended.append, "later")

    host = on_the_inclusion(settings_of(tmp_path), Depends(gate))
    with live(host, http=BoundedConnection if on_ours else "h11") as url:
        answer = httpx.post(f"{url}{PREFIX}/upload", content=b'{"content_type": "video/mp4"}', headers=JSON)
        assert answer.status_code == 201
    assert record.calls == ['{"content_type": "video/mp4"}']
    assert record.ended == ["later"]


JSON = HEADERS | {"Content-Type": "application/json"}


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
async def test_a_dependency_that_declares_a_body_is_refused_at_the_start_by_its_name(
    tmp_path: Path, place: Place
) -> None:
    async def inner(reason: Annotated[str, Body()]) -> str:
        return reason

    async def gate(reason: Annotated[str, Depends(inner)]) -> None: ...

    with pytest.raises(TypeError, match=r"gate cannot be a dependency .*inner declares a body parameter"):
        async with client_of(place(settings_of(tmp_path), Depends(gate))):
            pass


async def test_a_dependency_on_a_demand_of_the_broker_is_refused_at_the_start_by_its_name(tmp_path: Path) -> None:
    async def gate(caller: Uploader) -> None: ...

    with pytest.raises(TypeError, match=r"gate cannot be a dependency .* depends on .*TokenDemand"):
        async with client_of(on_the_inclusion(settings_of(tmp_path), Depends(gate))):
            pass
