"""The upload libraries from npm, used through the recipes exactly as documented."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page

import broker

from .npm import packages
from .recipes import recipe
from .stack import Stack, token
from .waiting import until

WEB = Path(broker.__file__).parent / "web"
ESBUILD = "esbuild@0.28.2"

Load = Callable[..., str]


@pytest.fixture
def load(page: Page, stack: Stack, tmp_path: Path) -> Load:
    """Return a function that bundles a recipe, loads it on the application's page, and returns its owner."""

    def bundled(heading: str, *specs: str) -> str:
        folder = packages(ESBUILD, *specs)
        owner = heading
        (tmp_path / "node_modules").symlink_to(folder / "node_modules")
        exports = f"export const prefix = {stack.prefix!r}; export const getToken = () => {token(owner)!r};"
        (tmp_path / "app.js").write_text(exports)
        (tmp_path / "broker.js").write_text(recipe("Upload libraries")[0])
        (code,) = recipe(heading)
        (tmp_path / "recipe.js").write_text(code)
        (tmp_path / "entry.js").write_text('import * as recipe from "./recipe.js"; Object.assign(window, recipe);')
        esbuild = folder / "node_modules" / ".bin" / "esbuild"
        command = [esbuild, "entry.js", "--bundle", "--outfile=bundle.js"]
        done = subprocess.run([*command, "--format=esm"], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        page.goto(stack.app)
        if (styles := tmp_path / "bundle.css").exists():
            page.add_style_tag(path=styles)
        page.add_script_tag(path=tmp_path / "bundle.js", type="module")
        return owner

    return bundled


def test_uppy_uploads_three_files(load: Load, page: Page, stack: Stack, films: list[Path]) -> None:
    owner = load("Uppy 5", "@uppy/core@5.2.0", "@uppy/dashboard@5.1.1", "@uppy/aws-s3@5.1.0")
    page.locator("#uploader input[type=file]").first.set_input_files(films)
    page.get_by_role("button", name="Upload 3 files").click()
    _wait_for_three(stack, owner, page)
    page.locator(".uppy-StatusBar.is-complete").wait_for()


def test_filepond_uploads_three_files(load: Load, page: Page, stack: Stack, films: list[Path]) -> None:
    owner = load("FilePond", "filepond@4.32.12", str(WEB))
    page.locator("input.filepond--browser").set_input_files(films)
    page.evaluate("pond.processFiles()")
    _wait_for_three(stack, owner, page)


def test_dropzone_uploads_three_files(load: Load, page: Page, stack: Stack, films: list[Path]) -> None:
    owner = load("Dropzone", "dropzone@6.3.5")
    page.locator("input.dz-hidden-input").set_input_files(films)
    until(page, "dropzone.files.length === 3 && dropzone.files.every(({ status }) => status === 'success')")
    _wait_for_three(stack, owner, page)


def _wait_for_three(stack: Stack, owner: str, page: Page) -> None:
    """Wait until the owner has three ready media, each with its file's name."""
    headers = {"Authorization": f"Bearer {token(owner)}"}
    for _ in range(100):
        media = httpx.get(f"{stack.prefix}/?status=ready", headers=headers).json()["media"]
        if len(media) == 3:
            break
        page.wait_for_timeout(100)
    assert sorted(item["filename"] for item in media) == ["part 1.mp4", "part 2.mp4", "part 3.mp4"]
