"""A method that a path does not have gets 405 with all methods that it has, before any token is asked for."""

from pathlib import Path
from uuid import uuid4

import pytest
from fastapi import FastAPI

from broker.app import PREFIX, create_app, create_router
from tests.support.serving import client_of, settings_of

ALLOWED = {
    "/upload": "POST",
    "/rules": "GET",
    "/": "DELETE, GET",
    "/healthz": "GET, HEAD",
    "/readyz": "GET, HEAD",
    "/health/s3": "GET",
    "/broker-upload.js": "GET, HEAD",
    "/{media_id}": "DELETE, GET",
    "/{media_id}/complete": "POST",
    "/{media_id}/parts": "GET",
    "/{media_id}/uploaded/state": "GET",
}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
UNKNOWN = ("PROPFIND", "QUERY", "get")


@pytest.mark.parametrize("mounted", [False, True])
@pytest.mark.parametrize("path", ALLOWED)
async def test_another_method_is_refused_with_all_that_are_allowed(path: str, mounted: bool, tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    app, prefix = create_app(settings), PREFIX
    if mounted:
        app, prefix = FastAPI(), "/videos"
        app.include_router(create_router(settings), prefix=prefix)
    allowed = ALLOWED[path].split(", ")
    async with client_of(app) as client:
        for method in set(METHODS) - set(allowed):
            answer = await client.request(method, prefix + path.format(media_id=uuid4()))
            assert (answer.status_code, answer.headers["Allow"]) == (405, ALLOWED[path]), method
            assert answer.json()["detail"] == f"This path takes {ALLOWED[path]} only."
            assert answer.headers["Content-Type"] == "application/problem+json"
        for method in UNKNOWN:
            request = client.build_request("GET", prefix + path.format(media_id=uuid4()))
            request.method = method  # httpx itself would write it in upper case
            answer = await client.send(request)
            assert (answer.status_code, answer.headers.get("Allow")) == (501, None), method
            assert answer.headers["Content-Type"] == "application/problem+json"


async def test_the_list_without_a_slash_names_its_methods_too(tmp_path: Path) -> None:
    async with client_of(create_app(settings_of(tmp_path))) as client:
        for method in ("POST", "TRACE"):
            answer = await client.request(method, PREFIX)
            assert (answer.status_code, answer.headers["Allow"]) == (405, ALLOWED["/"]), method


async def test_the_probes_at_the_root_name_their_methods_too(tmp_path: Path) -> None:
    async with client_of(create_app(settings_of(tmp_path))) as client:
        for path in ("/healthz", "/readyz"):
            answer = await client.delete(path)
            assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")
