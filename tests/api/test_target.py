"""The target of a request: a valid and allowed Host, a scheme of http or https, and a path without encoding."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from broker.app import PREFIX, create_app, create_router
from broker.server.connections import BoundedConnection
from tests.support.live import live
from tests.support.serving import bearing, client_of, served, settings_of, token

UPLOAD = {"content_type": "video/mp4"}
INVALID_HOSTS = [
    "evil.example/.tenant.example",
    "evil.example/a.tenant.example",
    "evil.example?.tenant.example",
    "evil.example#.tenant.example",
    "user@a.tenant.example",
    "a.tenant.example:80:80",
    "a.tenant.example:port",
    "a.tenant.example:808080",
    "a b.tenant.example",
    "a\\b.tenant.example",
    "<b>.tenant.example",
    "[::1].tenant.example",
    "[evil].tenant.example",
    "",
]


@pytest.mark.parametrize("host", INVALID_HOSTS)
@pytest.mark.parametrize("allowed", ["", "*.tenant.example"])
async def test_an_invalid_host_gets_400(tmp_path: Path, host: str, allowed: str) -> None:
    async with served(tmp_path, allowed_hosts=allowed) as client:
        for path in ("/upload", "http://broker.example/healthz"):
            method = "POST" if path == "/upload" else "GET"
            answer = await client.request(method, path, headers=bearing(token()) | {"Host": host})
            assert (answer.status_code, answer.json()["type"]) == (400, "urn:s3-media:problem:host-invalid")


@pytest.mark.parametrize("host", ["a.tenant.example", "A.Tenant.example:8443", "a.b.tenant.example:80"])
async def test_the_addresses_in_a_response_name_the_valid_host(tmp_path: Path, host: str) -> None:
    async with served(tmp_path, allowed_hosts="*.tenant.example") as client:
        answer = await client.post("/upload", json=UPLOAD, headers=bearing(token()) | {"Host": host})
    assert answer.json()["complete_url"].startswith(f"http://{host}{PREFIX}/")


async def test_an_ipv6_address_is_a_valid_host(tmp_path: Path) -> None:
    async with served(tmp_path) as client:
        answer = await client.post("/upload", json=UPLOAD, headers=bearing(token()) | {"Host": "[2001:db8::1]:8000"})
    assert answer.json()["complete_url"].startswith(f"http://[2001:db8::1]:8000{PREFIX}/")


async def test_an_invalid_host_gets_400_from_a_mounted_router_too(tmp_path: Path) -> None:
    host = FastAPI()
    host.include_router(create_router(settings_of(tmp_path)), prefix="/videos")
    async with client_of(host) as client:
        headers = bearing(token()) | {"Host": "evil.example/.tenant.example"}
        answer = await client.post("/videos/upload", json=UPLOAD, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:s3-media:problem:host-invalid")


@pytest.mark.parametrize(
    ("reported", "scheme"),
    [("https", "https"), ("http", "http"), ("ws", "http"), ("wss", "https"), ("gopher", "http"), ("", "http")],
)
async def test_a_proxy_can_report_http_and_https_only(tmp_path: Path, reported: str, scheme: str) -> None:
    async with served(tmp_path, trusted_proxies="192.0.2.7") as client:
        headers = bearing(token()) | {"X-Forwarded-Proto": reported}
        answer = await client.post("/upload", json=UPLOAD, headers=headers)
    assert answer.json()["complete_url"].startswith(f"{scheme}://broker.example/")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.URL]:
    app: Any = create_app(settings_of(tmp_path_factory.mktemp("target")))
    with live(app, http=BoundedConnection) as url:
        yield httpx.URL(url)


def status_of(address: httpx.URL, request: bytes) -> int:
    """Return the status of the response to a raw request."""
    with socket.create_connection((address.host, address.port or 80), timeout=5) as connection:
        connection.sendall(request + b"Connection: close\r\n\r\n")
        return int(connection.makefile("rb").readline().split()[1])


@pytest.mark.parametrize(
    ("version", "hosts", "status"),
    [
        ("1.1", [], 400),
        ("1.1", ["a.example", "b.example"], 400),
        ("1.1", ["a.example", "a.example"], 400),
        ("1.0", ["a.example", "a.example"], 400),
        ("1.0", [], 200),
        ("1.1", ["a.example"], 200),
    ],
)
def test_http_1_1_needs_exactly_one_host(address: httpx.URL, version: str, hosts: list[str], status: int) -> None:
    head = f"GET /healthz HTTP/{version}\r\n" + "".join(f"Host: {host}\r\n" for host in hosts)
    assert status_of(address, head.encode()) == status


@pytest.mark.parametrize("path", ["/metrics", "/metrics?%6d=%6d"])
def test_a_plain_path_names_a_route(address: httpx.URL, path: str) -> None:
    assert status_of(address, f"GET {path} HTTP/1.1\r\nHost: a\r\n".encode()) == 200


@pytest.mark.parametrize("path", ["/%6detrics", "/metric%73", "/x/%2e%2e/metrics", "/healt%68z"])
def test_an_encoded_path_names_none(address: httpx.URL, path: str) -> None:
    assert status_of(address, f"GET {path} HTTP/1.1\r\nHost: a\r\n".encode()) == 404
