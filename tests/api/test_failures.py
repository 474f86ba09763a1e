"""An unexpected failure in a route: the client gets a problem, and error trackers and the host see the exception."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from broker.api.asgi.route import ProblemRoute
from broker.api.state import NOT_STARTED
from broker.app import PREFIX, create_app, create_router
from broker.logs import access_log, configure_logging
from broker.server.connections import BoundedConnection
from tests.support.live import live
from tests.support.serving import bearing, settings_of, token

REQUEST: dict[str, Any] = {"json": {"content_type": "video/mp4"}, "headers": bearing(token())}
TRACKED = """
import asyncio, json, sys
from pathlib import Path
import httpx, sentry_sdk
from sentry_sdk.transport import Transport

events = []

class Kept(Transport):
    def capture_envelope(self, envelope):
        events.extend(item.payload.json for item in envelope.items if item.type == "event")

sentry_sdk.init(dsn="https://key@sentry.example/1", transport=Kept)

from fastapi import FastAPI
from broker.app import create_app, create_router
from tests.support.serving import bearing, settings_of, token

settings = settings_of(Path(sys.argv[1]))
if sys.argv[2] == "mounted":
    app = FastAPI()
    app.include_router(create_router(settings), prefix="/api/v1/s3-media")
else:
    app = create_app(settings)

async def main():
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)  # runs no lifespan
    async with httpx.AsyncClient(transport=transport, base_url="http://broker.example") as client:
        path = "/api/v1/s3-media/upload"
        answer = await client.post(path, json={"content_type": "video/mp4"}, headers=bearing(token()))
    sentry_sdk.flush()
    raised = [value["type"] for event in events for value in event["exception"]["values"]]
    print(json.dumps([answer.status_code, answer.headers["content-type"], raised]))

asyncio.run(main())
"""
"""A program that asks a broker whose lifespan did not run, and prints what Sentry's SDK would send."""


def client_of_failing(app: Any, *, raised: bool = False) -> httpx.AsyncClient:
    """Return a client of an application whose lifespan does not run, so that every route of the broker fails."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=raised)
    return httpx.AsyncClient(transport=transport, base_url="http://broker.example")


@pytest.fixture(params=["mounted", "standalone"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> FastAPI:
    """Return an application that includes the router, or the broker's own."""
    settings = settings_of(tmp_path)
    if request.param == "standalone":
        return create_app(settings)
    mounting = FastAPI()
    mounting.include_router(create_router(settings), prefix=PREFIX)
    return mounting


@pytest.mark.parametrize("way", ["mounted", "standalone"])
def test_an_error_tracker_sees_the_exception_once(tmp_path: Path, way: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", TRACKED, str(tmp_path), way], capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(ended.stdout.splitlines()[-1]) == [500, "application/problem+json", ["RuntimeError"]]


@pytest.mark.parametrize("kind", [RuntimeError, Exception, 500])
async def test_an_exception_handler_of_the_host_answers(host: FastAPI, kind: type[Exception] | int) -> None:
    seen: list[Exception] = []

    async def handle(request: Request, error: Exception) -> Response:
        seen.append(error)
        return JSONResponse({"support": "call us"}, 500)

    host.add_exception_handler(kind, handle)
    async with client_of_failing(host) as client:
        answer = await client.post(f"{PREFIX}/upload", **REQUEST)
    assert (answer.status_code, answer.json()) == (500, {"support": "call us"})
    assert [str(error) for error in seen] == [NOT_STARTED]


async def test_a_handler_of_other_exceptions_leaves_the_problem(host: FastAPI) -> None:
    async def handle(request: Request, error: Exception) -> Response:
        raise AssertionError

    host.add_exception_handler(KeyError, handle)
    async with client_of_failing(host) as client:
        answer = await client.post(f"{PREFIX}/upload", **REQUEST)
    assert answer.json()["type"] == "urn:s3-media:problem:internal"


async def test_the_server_sees_the_exception(host: FastAPI) -> None:
    async with client_of_failing(host, raised=True) as client:
        with pytest.raises(RuntimeError):
            await client.post(f"{PREFIX}/upload", **REQUEST)


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """Configure the log as the commands do, and yield what it gets."""
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers, root.level
    configure_logging(stream=stream)
    yield stream
    structlog.reset_defaults()
    access_log.write_to(None)
    root.handlers, root.level = handlers, level


@pytest.mark.parametrize("http", [BoundedConnection, "h11"], ids=["the broker's connections", "h11"])
def test_an_exception_is_logged_once_with_the_id_of_its_request(tmp_path: Path, logged: io.StringIO, http: Any) -> None:
    app = create_app(settings_of(tmp_path))

    async def fail() -> None:
        raise LookupError("only once")

    app.router.add_api_route("/failing", fail, route_class_override=ProblemRoute)
    with live(app, http=http) as url:
        answer = httpx.get(f"{url}/failing", headers={"X-Request-ID": "mine"})
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:s3-media:problem:internal")
    lines = [json.loads(line) for line in logged.getvalue().splitlines()]
    (failure,) = [line for line in lines if "exception" in line]
    assert (failure["level"], failure["request_id"]) == ("error", "mine")
    assert failure["exception"].endswith("LookupError: only once")
    assert [line["status"] for line in lines if line["event"] == "request"] == [500]


async def test_a_failure_carries_the_headers_for_pages_of_other_origins(tmp_path: Path) -> None:
    app = create_app(settings_of(tmp_path, cors_origins="https://app.example"))
    async with client_of_failing(app) as client:
        headers = REQUEST["headers"] | {"Origin": "https://app.example"}
        answer = await client.post(f"{PREFIX}/upload", json=REQUEST["json"], headers=headers)
    assert answer.status_code == 500
    assert answer.headers["access-control-allow-origin"] == "https://app.example"


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
async def test_the_documentation_behind_a_prefix_asks_for_the_document_behind_it(tmp_path: Path, page: str) -> None:
    async with client_of_failing(create_app(settings_of(tmp_path))) as client:
        html = (await client.get(page)).text
        document = (await client.get("/openapi.json")).json()
    assert "openapi.json" in html
    assert "/openapi.json" not in html
    address = httpx.URL("https://api.example/video" + page).join("openapi.json")
    assert address == "https://api.example/video/openapi.json"
    assert document["info"]["title"] in html
