"""The envelope of each response: headers, request id, log line, and allowed hosts."""

import asyncio
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from broker.api.asgi.middleware import Envelope
from broker.app import PREFIX, create_app
from broker.logs import access_log
from broker.server.connections import BoundedConnection
from tests.support.live import live
from tests.support.serving import bearing, served, settings_of, token

SECURITY = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
UPLOAD = {"content_type": "video/mp4"}


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Yield what the log gets of the requests."""
    stream = io.StringIO()
    before = access_log._stream
    access_log.write_to(stream)
    yield stream
    access_log.write_to(before)


@pytest.mark.parametrize("on_ours", [False, True])
@pytest.mark.parametrize(
    ("asked", "status", "route"),
    [
        ({"method": "POST", "url": f"{PREFIX}/upload", "json": UPLOAD, "headers": bearing(token())}, 201, "/upload"),
        ({"method": "POST", "url": f"{PREFIX}/upload", "json": UPLOAD}, 401, "/upload"),
        ({"method": "GET", "url": "/nowhere"}, 404, None),
        ({"method": "GET", "url": "/healthz"}, 200, "/healthz"),
    ],
    ids=["an answer", "a problem", "no route", "outside the prefix"],
)
def test_each_response_has_the_security_headers_an_id_and_a_log_line(
    tmp_path: Path, lines: io.StringIO, asked: dict[str, Any], status: int, route: str | None, on_ours: bool
) -> None:
    options = {"http": BoundedConnection if on_ours else "h11"}
    with live(create_app(settings_of(tmp_path)), **options) as url, httpx.Client(base_url=url) as client:
        answer = client.request(**asked)
    assert answer.status_code == status
    assert {name: answer.headers.get(name) for name in SECURITY} == SECURITY
    assert "strict-transport-security" not in answer.headers
    line = json.loads(lines.getvalue())
    assert (line["status"], line["route"]) == (status, route)
    assert line["request_id"] == answer.headers["x-request-id"]


async def test_a_response_over_https_has_strict_transport_security(tmp_path: Path) -> None:
    async with served(tmp_path) as client:
        answer = await client.post(str(client.base_url).replace("http:", "https:") + "upload", json=UPLOAD)
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


async def test_a_page_may_load_scripts_and_not_be_framed(tmp_path: Path) -> None:
    async with served(tmp_path) as client:
        answer = await client.get("http://broker.example/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-security-policy"] == "frame-ancestors 'none'; object-src 'none'; base-uri 'none'"


@pytest.mark.parametrize(
    ("host", "path", "status"),
    [
        ("media.example", "/upload", 401),
        ("media.example:8443", "/upload", 401),
        ("MEDIA.example", "/upload", 401),
        ("eu.videos.example", "/upload", 401),
        ("videos.example", "/upload", 400),
        ("evil-media.example", "/upload", 400),
        ("media.example.evil", "/upload", 400),
        ("192.0.2.1", "/upload", 400),
    ],
)
async def test_only_allowed_hosts_are_served(tmp_path: Path, host: str, path: str, status: int) -> None:
    async with served(tmp_path, allowed_hosts="media.example,*.videos.example") as client:
        answer = await client.post(path, json=UPLOAD, headers={"Host": host})
        assert answer.status_code == status
        if status == 400:
            assert answer.headers["content-type"] == "application/problem+json"
            probe = await client.get("http://broker.example/healthz", headers={"Host": host})
            assert probe.status_code == 200


async def given_up(app: ASGIApp) -> tuple[asyncio.Task[None], list[Any]]:
    """Let the server give up a request to `app` after its first step; return what became of it, and what was sent."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "scheme": "http"}
    serving = asyncio.create_task(Envelope(app)(scope, None, send))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    serving.cancel()
    await asyncio.wait({serving})
    return serving, sent


async def test_a_request_that_a_stop_cancels_gets_a_problem(lines: io.StringIO) -> None:
    async def never(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    serving, sent = await given_up(never)
    assert not serving.cancelled()
    assert serving.exception() is None
    assert sent[0]["status"] == json.loads(sent[1]["body"])["status"] == json.loads(lines.getvalue())["status"] == 503
    assert {(b"connection", b"close"), (b"retry-after", b"1")} <= set(sent[0]["headers"])


async def test_a_request_cancelled_in_the_middle_of_its_response_gets_no_second_response(lines: io.StringIO) -> None:
    async def half(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        await asyncio.Event().wait()

    serving, sent = await given_up(half)
    assert serving.cancelled()
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
