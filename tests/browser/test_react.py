"""The React example of the guide, from the npm tarball, in two browsers: three files, one paused, one rejected."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from broker.dev.s3 import Fault
from tests.support.npm import packages, program
from tests.support.processes import ROOT
from tests.support.stack import Stack, token
from tests.support.web_package import packed, project

GUIDE = ROOT / "infra" / "guides" / "react.md"
TOOLS = ("esbuild@0.28.2", "react@19.3.1", "react-dom@19.3.1")
MAIN = """
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Uploads } from "./Uploads.jsx";
document.documentElement.lang = "en";
document.body.replaceChildren(document.createElement("div"));
createRoot(document.body.firstChild).render(<StrictMode><Uploads /></StrictMode>);
"""
MIB = 1024**2


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundle the guide's component, word for word, with the tarball and React."""
    (component,) = re.findall(r"^```jsx\n(.*?)^```", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    tools = packages(*TOOLS)
    folder = project(tmp_path_factory.mktemp("react"), packed(tmp_path_factory.mktemp("packed")), beside=tools)
    (folder / "Uploads.jsx").write_text(component)
    (folder / "main.jsx").write_text(MAIN)
    (folder / "app.js").write_text("export const { prefix, getToken } = window.app;\n")
    esbuild = [
        str(tools / "node_modules" / ".bin" / "esbuild"),
        "main.jsx",
        "--bundle",
        "--format=esm",
        "--jsx=automatic",
    ]
    options = ["--outfile=bundle.js", "--define:process.env.NODE_ENV='development'", "--preserve-symlinks"]
    subprocess.run([*esbuild, *options], cwd=folder, check=True, capture_output=True)
    return folder / "bundle.js"


@pytest.fixture
def uploads(page: Page, stack: Stack, bundle: Path) -> Page:
    """Return a page of the application that shows the example."""
    page.add_init_script(f"window.app = {{ prefix: {stack.prefix!r}, getToken: () => {token('react')!r} }}")
    page.route(f"{stack.app}/bundle.js", _file(bundle))
    page.goto(stack.app)
    page.add_script_tag(url=f"{stack.app}/bundle.js", type="module")
    expect(page.get_by_role("heading", name="Your videos")).to_be_visible()
    return page


@pytest.fixture(scope="module")
def large_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a file that goes in parts."""
    file = tmp_path_factory.mktemp("files") / "large.mp4"
    with file.open("wb") as opened:
        opened.truncate(33 * MIB)
    return file


def test_three_files_one_paused_and_resumed_one_rejected(
    uploads: Page, stack: Stack, film: Path, large_file: Path, tmp_path: Path
) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("no video")
    stack.s3.order_fault(Fault("PostObject", count=100, delay_seconds=6))
    asked: list[str] = []
    uploads.on("request", lambda request: asked.append(request.url) if "/upload" in request.url else None)
    uploads.get_by_label("Choose videos").set_input_files([film, large_file, notes])
    ready, paused, rejected = (entry(uploads, file.name) for file in (film, large_file, notes))

    expect(rejected.get_by_role("status")).to_contain_text("is not allowed")
    assert set(asked) == {f"{stack.prefix}/uploads"}
    expect(paused.get_by_role("status")).to_have_text("sending")
    paused.get_by_role("button", name="Pause").click()
    expect(paused.get_by_role("status")).to_have_text("paused")
    expect(ready.get_by_role("status")).to_have_text("ready")
    assert violations(uploads) == []
    stack.s3.clear_faults()
    expect(paused.get_by_role("status")).to_have_text("paused")
    paused.get_by_role("button", name="Resume").click()
    expect(paused.get_by_role("status")).to_have_text("ready")

    rejected.get_by_role("button", name="Remove").click()
    expect(rejected).to_have_count(0)
    expect(uploads.locator("video")).to_have_count(2)
    assert violations(uploads) == []


def test_the_same_in_firefox(stack: Stack, bundle: Path, film: Path, large_file: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("no video")
    stack.s3.order_fault(Fault("PostObject", count=100, delay_seconds=6))
    files = [film, large_file, notes]
    wish = {
        "program": program("firefox-esr", "firefox"),
        "packages": str(packages("puppeteer-core@24.43.1")),
        "axe": str(axe()),
        "app": stack.app,
        "prefix": stack.prefix,
        "token": token("firefox"),
        "bundle": str(bundle),
        "files": [str(file) for file in files],
        "names": [file.name for file in files],
    }
    script = Path(__file__).with_name("react.mjs")
    ran = subprocess.run(
        [program("node"), str(script), json.dumps(wish)], capture_output=True, text=True, timeout=110, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {"found": [], "videos": 2}


def test_a_failed_upload_can_be_retried(uploads: Page, stack: Stack, film: Path) -> None:
    stack.s3.order_fault(Fault("PostObject", code="AccessDenied", status=403))
    uploads.get_by_label("Choose videos").set_input_files(film)
    failed = entry(uploads, film.name)
    expect(failed.get_by_role("status")).to_contain_text("S3 refused the upload")
    failed.get_by_role("button", name="Retry").click()
    expect(failed.get_by_role("status")).to_have_text("ready")


def test_a_cancelled_upload_is_deleted_and_can_be_started_again(uploads: Page, stack: Stack, film: Path) -> None:
    stack.s3.order_fault(Fault("PostObject", delay_seconds=10))
    uploads.get_by_label("Choose videos").set_input_files(film)
    cancelled = entry(uploads, film.name)
    expect(cancelled.get_by_role("status")).to_have_text("sending")
    with uploads.expect_response(lambda response: response.request.method == "DELETE") as deleted:
        cancelled.get_by_role("button", name="Cancel").click()
    assert deleted.value.status == 200
    expect(cancelled.get_by_role("status")).to_have_text("cancelled")
    stack.s3.clear_faults()
    cancelled.get_by_role("button", name="Retry").click()
    expect(cancelled.get_by_role("status")).to_have_text("ready")


def entry(page: Page, name: str) -> Locator:
    """Return the list's entry of a file."""
    return page.get_by_role("listitem").filter(has_text=name)


def axe() -> Path:
    """Return the script of axe-core."""
    return packages("axe-core@4.14.1") / "node_modules" / "axe-core" / "axe.min.js"


def violations(page: Page) -> list[Any]:
    """Return what axe-core finds."""
    page.add_script_tag(path=axe())
    found: list[Any] = page.evaluate(
        "axe.run().then(({ violations }) => violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]))"
    )
    return found


def _file(path: Path) -> Any:
    def fulfill(route: Route) -> None:
        route.fulfill(path=path)

    return fulfill
