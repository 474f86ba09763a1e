"""A page that holds only what its own backend gave it: it uploads, resumes and completes, and reaches nothing else."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import pytest
from fastapi import FastAPI, Request
from playwright.sync_api import Browser, Page, Route

from tests.browser.recipes import APPLICATION, loaded, recipe, variables
from tests.support.stack import BUCKET, Stack, running_stack, token

MIB = 1024**2
PART = 5 * MIB
FILE = os.urandom(MIB) * 12
"""Three parts, the last one smaller."""
EXAMPLE = "https://api.example/api/v1/s3-media"
(ISSUING,) = recipe("Uploads on behalf of a user", guide=APPLICATION)
BIG = ISSUING.replace("{ issue }", "{ issue, resumableOver: 1 }")
ISSUED = "const media = await upload(file, { issued: await issue(file, wish) });".join(
    ISSUING.split("const media = await upload(file, { issue });")
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Run a broker, and the guide's backend in FastAPI on the pages' origin."""
    folder = tmp_path_factory.mktemp("application")
    with patch.dict(os.environ, variables("")), running_stack(folder, part_size=PART) as stack:
        backend: FastAPI = loaded(stack.prefix, folder, "A FastAPI backend")

        async def login(request: Request, user: str) -> None:
            request.session["user"] = user

        backend.add_api_route("/login/{user}", login, methods=["POST"])
        stack.pages.mount("/", backend)
        yield stack


@pytest.fixture
def user(request: pytest.FixtureRequest) -> str:
    return re.sub(r"\W", "-", request.node.name)


@pytest.fixture
def page(browser: Browser, served: Stack, user: str) -> Iterator[Page]:
    """Open the application's page, logged in; every request to the broker carries an upload token and no JWT."""
    context = browser.new_context()
    context.set_default_timeout(30_000)
    bearers: list[str] = []

    def note(sent: Any) -> None:
        if sent.url.startswith(served.prefix) and (authorization := sent.headers.get("authorization")):
            bearers.append(authorization)

    context.on("request", note)
    page = context.new_page()
    page.goto(served.app)
    assert page.evaluate("async (user) => (await fetch(`/login/${user}`, { method: 'POST' })).status", user) == 200
    yield page
    context.close()
    assert bearers
    assert [bearer for bearer in bearers if not bearer.startswith("Bearer s3mu_")] == []


def start(page: Page, served: Stack, path: Path, code: str = ISSUING) -> None:
    """Choose a file, and run the guide's code for it."""
    page.set_input_files("input[type=file]", path)
    script = code.replace(EXAMPLE, served.prefix).replace("const media =", "window.media =")
    heard = """
      const answered = fetch;
      window.fetch = async (...asked) => {
        const answer = await answered(...asked);
        if (asked[0] === "/my/uploads") window.issued = await answer.clone().json();
        return answer;
      };
      const [file] = document.querySelector("input").files;
      const wish = { request: { content_type: "video/mp4", size: file.size }, idempotencyKey: crypto.randomUUID() };
    """
    page.add_script_tag(content=script.replace("\n\n", f"\n{heard}\n", 1), type="module")


def ready(page: Page) -> dict[str, Any]:
    page.wait_for_function("() => window.media")
    media: dict[str, Any] = page.evaluate("() => window.media")
    return media


def media_of(served: Stack, owner: str) -> list[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {token(owner)}"}
    listed: list[dict[str, Any]] = httpx.get(f"{served.prefix}/", headers=headers).json()["media"]
    return listed


@pytest.mark.parametrize("code", [ISSUING, ISSUED], ids=["issue", "issued"])
def test_a_page_uploads_for_the_user_of_its_session(
    page: Page, served: Stack, film: Path, user: str, code: str
) -> None:
    start(page, served, film, code)
    media = ready(page)
    assert (media["status"], media["size"], media["signed_url"]) == ("ready", film.stat().st_size, None)
    assert [(one["media_id"], one["status"]) for one in media_of(served, user)] == [(media["media_id"], "ready")]


def test_a_page_resumes_after_a_reload_with_the_parts_that_are_missing(
    page: Page, served: Stack, tmp_path: Path, user: str
) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(FILE)
    posts, answers = [], []
    bucket = re.compile(f"^{re.escape(served.s3.endpoint_url)}/{BUCKET}")

    def pass_two_parts(route: Route) -> None:
        posts.append(route.request.url)
        if len(posts) <= 2:
            route.continue_()

    page.route(bucket, pass_two_parts)
    page.on("response", lambda answer: answers.append(answer.status) if bucket.match(answer.url) else None)
    start(page, served, path, BIG)
    while len(answers) < 2:
        page.wait_for_timeout(50)
    first = page.evaluate("() => window.issued.media_id")
    page.reload()  # cancels the part that is held
    page.unroute(bucket)
    answers.clear()
    start(page, served, path, BIG)
    media = ready(page)
    assert media["media_id"] == first
    assert answers == [201]
    assert len(media_of(served, user)) == 1
    with httpx.Client() as client:
        headers = {"Authorization": f"Bearer {token(user)}"}
        link = client.get(f"{served.prefix}/{first}", headers=headers).json()["signed_url"]
        assert client.get(link).content == FILE


def test_a_page_can_reach_nothing_but_its_upload(page: Page, served: Stack, film: Path, user: str) -> None:
    headers = {"Authorization": f"Bearer {token(user)}"}
    body = {"content_type": "video/mp4"}
    other = httpx.post(f"{served.prefix}/upload", json=body, headers=headers).json()["media_id"]
    start(page, served, film)
    media = ready(page)
    own = page.evaluate("() => window.issued.upload_token")
    statuses = page.evaluate(
        """async ([prefix, own, media, other]) => {
          const headers = { Authorization: `Bearer ${own}`, "Content-Type": "application/json" };
          const ask = async (method, path, body) => (await fetch(prefix + path, { method, headers, body })).status;
          return {
            list: await ask("GET", "/"),
            issue: await ask("POST", "/upload", JSON.stringify({ content_type: "video/mp4" })),
            view: await ask("GET", `/${other}`),
            complete: await ask("POST", `/${other}/complete`),
            parts: await ask("GET", `/${other}/parts`),
            remove: await ask("DELETE", `/${other}`),
            removeOwn: await ask("DELETE", `/${media}`),
          };
        }""",
        [served.prefix, own, media["media_id"], other],
    )
    assert statuses == {
        "list": 403,
        "issue": 403,
        "view": 404,
        "complete": 404,
        "parts": 404,
        "remove": 404,
        "removeOwn": 403,
    }
    assert {one["media_id"]: one["status"] for one in media_of(served, user)} == {
        media["media_id"]: "ready",
        other: "pending",
    }


def test_a_page_without_a_session_gets_the_reason_of_its_backend(browser: Browser, served: Stack, film: Path) -> None:
    context = browser.new_context()
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(error.message))
    page.goto(served.app)
    with page.expect_event("pageerror"):
        start(page, served, film)
    context.close()
    assert problems == ["Log in first."]
