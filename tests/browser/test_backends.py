"""The backends of `infra/guides/application.md`, run as they stand: an upload for the user of a session cookie."""

import html
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import flask
import httpx
import pytest
from fastapi import FastAPI
from fastapi import Request as FastApiRequest
from fastapi.responses import HTMLResponse
from playwright.sync_api import Browser
from werkzeug.serving import make_server

from broker.store import migrate
from tests.browser.recipes import APPLICATION, loaded, recipe, variables
from tests.support.live import live
from tests.support.npm import packages, program
from tests.support.stack import Stack, token

UPLOAD = {"content_type": "video/mp4", "size": 1000, "filename": "a.mp4"}
EXPRESS = ("express@5.1.0", "express-session@1.18.2", "jsonwebtoken@9.0.2")


@contextmanager
def fastapi_backend(stack: Stack, folder: Path) -> Iterator[str]:
    app = loaded(stack.prefix, folder, "A FastAPI backend")

    async def login(request: FastApiRequest, user: str) -> None:
        request.session["user"] = user

    app.add_api_route("/login/{user}", login, methods=["POST"])
    with patch.dict(os.environ, variables(stack.prefix)), live(app) as url:
        yield url


@contextmanager
def flask_backend(stack: Stack, folder: Path) -> Iterator[str]:
    app = loaded(stack.prefix, folder, "A Flask backend")

    def login(user: str) -> str:
        flask.session["user"] = user
        return ""

    app.add_url_rule("/login/<user>", view_func=login, methods=["POST"])
    server = make_server("127.0.0.1", 0, app)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    with patch.dict(os.environ, variables(stack.prefix)):
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


LOGIN = (
    'app.post("/login/:user", (request, response) => { request.session.user = request.params.user; response.end(); });'
)


@contextmanager
def express_backend(stack: Stack, folder: Path) -> Iterator[str]:
    node, modules = program("node"), packages(*EXPRESS)
    (code,) = recipe("An Express backend", guide=APPLICATION)
    script = modules / f"{folder.name}.mjs"
    script.write_text(code + LOGIN)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, **variables(stack.prefix), "PORT": str(port)}
    process = subprocess.Popen([node, script], env=environment, cwd=modules)
    try:
        deadline = time.monotonic() + 100
        while socket.socket().connect_ex(("127.0.0.1", port)) != 0:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)
        script.unlink()


Backend = Callable[[Stack, Path], Any]


@pytest.mark.parametrize("backend", [fastapi_backend, flask_backend, express_backend], ids=lambda one: one.__name__)
def test_a_backend_issues_for_the_user_of_its_session_and_for_no_one_else(
    backend: Backend, stack: Stack, tmp_path: Path
) -> None:
    user = f"user of {tmp_path.name}"
    with backend(stack, tmp_path) as url, httpx.Client(base_url=url) as client:
        stranger = client.post("/my/uploads", json=UPLOAD)
        assert (stranger.status_code, stranger.json()["detail"]) == (401, "Log in first.")
        logged_in = client.post(f"/login/{user}")
        assert logged_in.is_success
        assert "samesite=lax" in logged_in.headers["Set-Cookie"].lower()
        greedy = UPLOAD | {"owner": "berta", "allow_link": True, "metadata": {"plan": "gold"}}
        answers = [client.post("/my/uploads", json=greedy, headers={"Idempotency-Key": user}) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [201, 201]
        first, again = [answer.json() for answer in answers]
        assert first["media_id"] == again["media_id"]
        refused = client.post("/my/uploads", json=UPLOAD | {"content_type": "text/html"})
        assert (refused.status_code, refused.json()["type"]) == (422, "urn:s3-media:problem:type-not-allowed")

    posted = httpx.post(first["upload"]["url"], data=first["upload"]["fields"], files={"file": bytes(1000)})
    assert posted.status_code == 201
    own = {"Authorization": f"Bearer {first['upload_token']}"}
    completed = httpx.post(first["complete_url"], headers=own).json()
    assert (completed["status"], completed["signed_url"], completed["metadata"]) == ("ready", None, {})
    (media,) = httpx.get(f"{stack.prefix}/", headers={"Authorization": f"Bearer {token(user)}"}).json()["media"]
    assert (media["media_id"], media["filename"]) == (first["media_id"], "a.mp4")


def test_a_host_decides_on_each_upload(stack: Stack, tmp_path: Path) -> None:
    migrate(f"sqlite:///{tmp_path}/broker.db")
    settings = {"AWS_S3_BUCKET_NAME": "videos", "BROKER_DATABASE_URL": f"sqlite:///{tmp_path}/broker.db"}
    keys = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}
    with patch.dict(os.environ, settings | keys):
        app = loaded(stack.prefix, tmp_path, "on_issue")
    with live(app) as url, httpx.Client(base_url=f"{url}/videos") as client:
        answers = {
            owner: client.post("/upload", json=UPLOAD, headers={"Authorization": f"Bearer {token(owner)}"})
            for owner in ("anna", "berta")
        }
        (media,) = client.get("/", headers={"Authorization": f"Bearer {token('anna')}"}).json()["media"]
    assert (answers["anna"].status_code, media["metadata"]) == (201, {"plan": "gold"})
    assert (answers["berta"].status_code, answers["berta"].json()["detail"]) == (403, "Your plan has no videos.")


PAGE = """<!doctype html><title>Your videos</title>
<form method="post" enctype="multipart/form-data" action="{url}">{fields}
<input type="file" name="file" required><button>Upload</button></form>"""


def test_a_form_without_javascript_is_issued_for_the_user_of_the_session(
    browser: Browser, shared_stack: Stack, film: Path, tmp_path: Path
) -> None:
    stack, user = shared_stack, f"user of {tmp_path.name}"
    machine = {"Authorization": f"Bearer {token('our-app', scope='media:upload media:delegate')}"}
    app = FastAPI()
    issued: dict[str, Any] = {}

    async def form() -> HTMLResponse:
        body = UPLOAD | {"size": film.stat().st_size, "owner": user, "redirect_url": f"{stack.app}/"}
        async with httpx.AsyncClient(base_url=stack.prefix, headers=machine) as broker:
            issued.update((await broker.post("/upload", json=body)).json())
        hidden = (
            f'<input type="hidden" name="{html.escape(name)}" value="{html.escape(value)}">'
            for name, value in issued["upload"]["fields"].items()
        )
        return HTMLResponse(PAGE.format(url=issued["upload"]["url"], fields="".join(hidden)))

    app.add_api_route("/", form)
    context = browser.new_context(java_script_enabled=False)
    with live(app) as url:
        page = context.new_page()
        page.goto(url)
        assert issued["upload_token"] not in page.content()
        page.set_input_files("input[type=file]", film)
        page.get_by_role("button", name="Upload").click()
        page.wait_for_url(f"{stack.app}/?media_id={issued['media_id']}&status=ready")
    context.close()
    own = {"Authorization": f"Bearer {issued['upload_token']}"}
    seen = httpx.get(f"{stack.prefix}/{issued['media_id']}", headers=own).json()
    assert (seen["status"], seen["signed_url"]) == ("ready", None)


def test_a_backend_takes_about_fifteen_lines() -> None:
    for heading, language in (
        ("A FastAPI backend", "python"),
        ("A Flask backend", "python"),
        ("An Express backend", "js"),
    ):
        (code,) = recipe(heading, language, guide=APPLICATION)
        route = re.split(r"^(?:@app|app)\.post", code, flags=re.MULTILINE)[1]
        assert len([line for line in route.splitlines() if line.strip()]) <= 17
