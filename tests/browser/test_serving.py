"""The files that the broker and its demo console serve, and the access rules of the console."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

import broker
from broker.api.routes.web import ENTRIES, IMPORTED, MODULES, web_router
from broker.dev.demo import demo_router
from broker.domain.rules import Rules

S3 = "http://127.0.0.1:9000"


@pytest.fixture
def client() -> Iterator[TestClient]:
    app = FastAPI()
    app.include_router(web_router(), prefix="/broker")
    app.include_router(demo_router(prefix="/broker", token=lambda: "a token", s3_origin=S3, rules=Rules()))
    with TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as client:
        yield client


@pytest.mark.parametrize("name", ENTRIES)
def test_a_module_is_cached_and_readable_from_any_origin(client: TestClient, name: str) -> None:
    answer = client.get(f"/broker/{name}", headers={"Origin": "https://app.example"})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "max-age=3600" in answer.headers["cache-control"]
    expected = "text/javascript; charset=utf-8" if name.endswith(".js") else "text/plain; charset=utf-8"
    assert answer.headers["content-type"] == expected


def test_every_module_of_the_package_is_served_but_those_that_import_another_package() -> None:
    folder = Path(broker.__file__).parent / "web"
    react = {"react.js", "react.d.ts"}
    assert {str(path.relative_to(folder)) for path in folder.rglob("*.[jt]s")} - react == set(MODULES)


def test_imports_name_one_version_that_is_cached_for_good_and_no_other(client: TestClient) -> None:
    imports = {
        urljoin(f"/broker/{name}", path)
        for name in MODULES
        if name.endswith(".js")
        for path in re.findall(r' from "(\./[^"]+|\.\./[^"]+)";', client.get(f"/broker/{name}").text)
    }
    assert {path.partition("?")[0].removeprefix("/broker/") for path in imports} == {*IMPORTED, "broker-upload.js"}
    assert len({path.partition("?v=")[2] for path in imports}) == 1
    caching = {client.get(path, headers={"Origin": "https://app.example"}).headers["cache-control"] for path in imports}
    assert caching == {"public, max-age=31536000, immutable"}
    for path in ("upload/errors.js", "upload/errors.js?v=of-another-release", "broker-upload.js?v=of-another-release"):
        assert client.get(f"/broker/{path}").headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    ("condition", "status"),
    [("{etag}", 304), ("W/{etag}", 304), ('"other", {etag}', 304), ("*", 304), ('"other"', 200)],
)
def test_a_module_that_the_browser_has_cached_is_not_sent_again(
    client: TestClient, condition: str, status: int
) -> None:
    etag = client.get("/broker/broker-upload.js").headers["etag"]
    answer = client.get("/broker/broker-upload.js", headers={"If-None-Match": condition.format(etag=etag)})
    assert answer.status_code == status
    assert answer.headers["etag"] == etag
    assert (answer.content == b"") is (status == 304)


def test_the_console_forbids_inline_code_and_every_other_origin_except_s3(client: TestClient) -> None:
    answer = client.get("/")
    policy = dict(directive.split(" ", 1) for directive in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["connect-src"] == policy["media-src"] == f"'self' {S3}"
    assert "unsafe" not in answer.headers["content-security-policy"]


def test_every_file_that_the_console_names_is_served(client: TestClient) -> None:
    page = client.get("/").text
    named = re.findall(r'(?:src|href)="([^"#]+\.\w+)"', page)
    named += re.findall(r'from "\./([\w.]+)"', client.get("/console.js").text)
    assert {"console.css", "console.js", "icon.svg", "queue.js"} <= set(named)
    assert {name: client.get(f"/{name}").status_code for name in named} == dict.fromkeys(named, 200)


@pytest.mark.parametrize("path", ["/", "/demo/config.json", "/form"])
@pytest.mark.parametrize("host", ["rebound.example", "10.0.0.7", "localhost.example", ""])
def test_the_console_refuses_every_host_name_except_loopback(client: TestClient, path: str, host: str) -> None:
    assert client.get(path, headers={"Host": host}).status_code == 403


def test_the_console_refuses_other_machines(client: TestClient) -> None:
    far = TestClient(client.app, base_url="http://127.0.0.1", client=("192.0.2.1", 1))
    assert far.get("/demo/config.json").status_code == 403


def test_the_token_is_never_cached(client: TestClient) -> None:
    answer: httpx.Response = client.get("/demo/config.json")
    assert answer.json()["token"] == "a token"
    assert answer.headers["cache-control"] == "no-store"
