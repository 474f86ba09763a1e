"""Probes of monitors and load balancers, some of them by HEAD."""

import http.client
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI

from broker.app import PREFIX, create_app, create_router
from broker.server.connections import BoundedConnection
from tests.support.live import live
from tests.support.serving import client_of, settings_of

PROBES = ("/healthz", "/readyz")


@pytest.mark.parametrize("on_ours", [False, True])
def test_head_is_answered_as_get_without_a_body(tmp_path: Path, on_ours: bool) -> None:
    options = {"http": BoundedConnection if on_ours else "h11"}
    with live(create_app(settings_of(tmp_path)), **options) as url:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=5)
        for path in (*PROBES, *(PREFIX + probe for probe in PROBES)):
            asked = httpx.get(url + path)
            for _ in range(2):  # bytes of a body would be taken for the next answer
                connection.request("HEAD", path)
                answer = connection.getresponse()
                assert (answer.status, answer.read()) == (asked.status_code, b"") == (200, b"")
                assert answer.getheader("Content-Length") == asked.headers["Content-Length"]
                assert answer.getheader("Content-Type") == asked.headers["Content-Type"]
                assert answer.getheader("Cache-Control") == "no-store"
        connection.close()


async def test_a_mounted_router_answers_head_without_documenting_it(tmp_path: Path) -> None:
    host = FastAPI()
    host.include_router(create_router(settings_of(tmp_path)), prefix="/videos")
    async with client_of(host) as client:
        for probe in PROBES:
            assert (await client.head(f"/videos{probe}")).status_code == 200
    for document in (host.openapi(), create_app(settings_of(tmp_path)).openapi()):
        assert [path for path, operations in document["paths"].items() if "head" in operations] == []
