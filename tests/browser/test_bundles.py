"""The npm tarball of the browser modules in bundles: of esbuild, Vite and webpack, run by Chromium.

esbuild's default format, a classic script, has no `import.meta.url`.
"""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route

from tests.support.npm import packages
from tests.support.stack import Stack, token
from tests.support.web_package import packed, project

BUNDLERS = ("esbuild@0.28.2", "vite@8.4.0", "webpack@5.113.0", "webpack-cli@7.3.1")
ENTRY = """
import { upload } from "s3-media-broker-web";
import { link } from "s3-media-broker-web/playback";
Object.assign(window, { upload, link });
"""
PAGE = '<!doctype html><script type="module" src="./entry.js"></script>'
VITE = """export default {
    base: "./",
    logLevel: "error",
    build: { outDir: "out", rollupOptions: { output: { entryFileNames: "bundle.js" } } },
};
"""
RUN = """async ({ token, options }) => {
    const file = new File([new Uint8Array(3000)], "film.mp4");
    const getToken = () => token;
    try {
        const media = await upload(file, { getToken, checksum: true, ...options });
        return { media, link: await link(media.media_id, { getToken, ...options }) };
    } catch ({ name, message }) {
        return { error: `${name}: ${message}` };
    }
}"""
COMMANDS = {
    "esbuild iife": ["esbuild", "entry.js", "--bundle", "--outfile=out/bundle.js", "--format=iife"],
    "esbuild esm": ["esbuild", "entry.js", "--bundle", "--outfile=out/bundle.js", "--format=esm"],
    "vite": ["vite", "build"],
    "webpack": [
        "webpack",
        "--mode=production",
        "--entry=./entry.js",
        "--output-path=out",
        "--output-filename=bundle.js",
    ],
}
MODULES = {"esbuild esm", "vite"}
"""The bundles that are ES modules; the others are classic scripts."""


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pack the browser modules."""
    return packed(tmp_path_factory.mktemp("packed"))


@pytest.fixture(params=COMMANDS)
def bundled(request: pytest.FixtureRequest, page: Page, stack: Stack, tarball: Path, tmp_path: Path) -> Page:
    """Return the application's page with a bundle of both modules, served with the files that the bundler made."""
    tools = packages(*BUNDLERS)
    folder = project(tmp_path / "project", tarball, beside=tools)
    for name, text in {"entry.js": ENTRY, "index.html": PAGE, "vite.config.js": VITE}.items():
        (folder / name).write_text(text)
    name, *arguments = COMMANDS[request.param]
    bundler = subprocess.run(
        [tools / "node_modules" / ".bin" / name, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert bundler.returncode == 0, bundler.stdout + bundler.stderr
    out = folder / "out"
    for path in out.rglob("*.js"):
        page.route(f"{stack.app}/{path.relative_to(out).as_posix()}", _file(path))
    if name == "esbuild":  # it leaves the worker's file to its user
        (worker,) = (folder / "node_modules" / "s3-media-broker-web").glob("*-worker.js")
        page.route(f"{stack.app}/{worker.name}", _file(worker))
    page.goto(stack.app)
    page.add_script_tag(url=f"{stack.app}/bundle.js", type="module" if request.param in MODULES else "")
    return page


def _file(path: Path) -> Callable[[Route], None]:
    return lambda route: route.fulfill(path=path)


def test_a_bundle_uploads_with_a_checksum_and_gets_links(bundled: Page, stack: Stack) -> None:
    result: dict[str, Any] = bundled.evaluate(RUN, {"token": token(), "options": {"prefix": stack.prefix}})
    assert result.get("error") is None
    assert result["media"]["size"] == 3000
    assert result["link"]["signed_url"].startswith(stack.s3.endpoint_url)


@pytest.mark.parametrize("bundled", ["esbuild iife"], indirect=True)
def test_a_classic_script_without_a_prefix_names_the_missing_option(bundled: Page) -> None:
    result = bundled.evaluate(RUN, {"token": token(), "options": {}})
    assert result["error"].startswith("TypeError: The option `prefix` is required")
