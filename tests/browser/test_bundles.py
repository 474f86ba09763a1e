"""The browser modules in bundles: esbuild's default format, a classic script, has no `import.meta.url`."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route

import broker
from tests.support.npm import packages
from tests.support.stack import Stack, token

WEB = Path(broker.__file__).parent / "web"
ENTRY = """
import { upload } from "s3-media-broker-web";
import { link } from "s3-media-broker-web/playback";
Object.assign(window, { upload, link });
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


@pytest.fixture(params=["iife", "esm"])
def bundled(request: pytest.FixtureRequest, page: Page, stack: Stack, tmp_path: Path) -> Page:
    """Return the application's page with a bundle of both modules, served beside the worker."""
    folder = packages("esbuild@0.28.2")
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "s3-media-broker-web").symlink_to(WEB)
    (tmp_path / "entry.js").write_text(ENTRY)
    esbuild = folder / "node_modules" / ".bin" / "esbuild"
    command = [str(esbuild), "entry.js", "--bundle", "--outfile=bundle.js", f"--format={request.param}"]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    for path in (tmp_path / "bundle.js", WEB / "checksum-worker.js"):
        page.route(f"{stack.app}/{path.name}", _file(path))
    page.goto(stack.app)
    page.add_script_tag(url=f"{stack.app}/bundle.js", type="module" if request.param == "esm" else "")
    return page


def _file(path: Path) -> Callable[[Route], None]:
    return lambda route: route.fulfill(path=path)


def test_a_bundle_uploads_with_a_checksum_and_gets_links(bundled: Page, stack: Stack) -> None:
    result: dict[str, Any] = bundled.evaluate(RUN, {"token": token(), "options": {"prefix": stack.prefix}})
    assert result.get("error") is None
    assert result["media"]["size"] == 3000
    assert result["link"]["signed_url"].startswith(stack.s3.endpoint_url)


@pytest.mark.parametrize("bundled", ["iife"], indirect=True)
def test_a_classic_script_without_a_prefix_names_the_missing_option(bundled: Page) -> None:
    result = bundled.evaluate(RUN, {"token": token(), "options": {}})
    assert result["error"].startswith("TypeError: The option `prefix` is required")
