"""CORS: the pages that may call the broker, and the headers that they may send."""

from pathlib import Path

import httpx
import pytest

from broker.api.asgi.cors import TRACING_HEADERS
from tests.support.serving import bearing, served, token

ORIGINS = (
    "https://app.example",
    "capacitor://localhost",
    "ionic://localhost",
    "app://obsidian.md",
    "tauri://localhost",
    "https://*.preview.example",
    "https://*.stage.example:8443",
)


async def preflight(client: httpx.AsyncClient, origin: str, *headers: str) -> httpx.Response:
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    if headers:
        asked["Access-Control-Request-Headers"] = ", ".join(headers)
    return await client.options("/upload", headers=asked)


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example",
        "capacitor://localhost",
        "ionic://localhost",
        "app://obsidian.md",
        "tauri://localhost",
        "https://pr-17.preview.example",
        "https://a.preview.example",
        "https://a.stage.example:8443",
    ],
)
async def test_a_page_of_a_configured_origin_may_call(origin: str, tmp_path: Path) -> None:
    async with served(tmp_path, cors_origins=ORIGINS) as client:
        allowed = await preflight(client, origin)
        assert (allowed.status_code, allowed.headers["Access-Control-Allow-Origin"]) == (200, origin)
        answer = await client.get("/", headers={"Origin": origin, **bearing(token())})
        assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, origin)
        for headers in (allowed.headers, answer.headers):
            assert "Access-Control-Allow-Credentials" not in headers
            assert "Origin" in headers["Vary"]


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "http://app.example",
        "https://app.example.evil.example",
        "https://evil.example",
        "capacitor://evil",
        "https://localhost",
        "https://preview.example",
        "https://a.b.preview.example",
        "https://evilpreview.example",
        "https://a.preview.example:8443",
        "https://a.preview.example.evil.example",
        "http://a.preview.example",
        "https://a.stage.example",
        "https://-.preview.example",
        "https://a/.preview.example",
        "https://*.preview.example",
        "https://aXpreview.example",
    ],
)
async def test_a_page_of_another_origin_may_not_call(origin: str, tmp_path: Path) -> None:
    async with served(tmp_path, cors_origins=ORIGINS) as client:
        refused = await preflight(client, origin)
        assert refused.status_code == 400
        assert "Access-Control-Allow-Origin" not in refused.headers
        answer = await client.get("/", headers={"Origin": origin, **bearing(token())})
        assert "Access-Control-Allow-Origin" not in answer.headers


async def test_a_page_whose_tracing_library_adds_headers_may_call(tmp_path: Path) -> None:
    async with served(tmp_path, cors_origins=ORIGINS) as client:
        answer = await preflight(client, "https://app.example", "authorization", *TRACING_HEADERS)
        assert answer.status_code == 200
        allowed = {name.strip().lower() for name in answer.headers["Access-Control-Allow-Headers"].split(",")}
        assert {"baggage", "sentry-trace", "traceparent", "tracestate", "b3", "idempotency-key"} <= allowed


async def test_further_headers_are_allowed_by_a_setting(tmp_path: Path) -> None:
    async with served(tmp_path, cors_origins=ORIGINS, cors_headers="X-Shop, X-App-Version") as client:
        assert (await preflight(client, "https://app.example", "x-shop", "x-app-version")).status_code == 200
        assert (await preflight(client, "https://app.example", "x-other")).status_code == 400
