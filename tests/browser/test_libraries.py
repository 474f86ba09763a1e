"""The upload libraries from npm, used through the recipes exactly as documented."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from playwright.sync_api import Page, expect

import broker
from broker.domain.keys import staging_key
from tests.browser.recipes import recipe
from tests.browser.waiting import until
from tests.support.npm import packages
from tests.support.stack import BUCKET, Stack, token

WEB = Path(broker.__file__).parent / "web"
ESBUILD = "esbuild@0.28.2"

Load = Callable[..., str]


@pytest.fixture
def load(page: Page, stack: Stack, tmp_path: Path) -> Load:
    """Return a function that bundles a recipe, loads it on the application's page, and returns its owner."""

    def bundled(heading: str, *specs: str) -> str:
        folder = packages(ESBUILD, *specs, str(WEB))
        owner = f"{heading} {uuid4()}"
        (tmp_path / "node_modules").symlink_to(folder / "node_modules")
        exports = (
            f"export const prefix = {stack.prefix!r}; export const getToken = ({{ renewed }}) => {token(owner)!r};"
        )
        (tmp_path / "app.js").write_text(exports)
        (tmp_path / "broker.js").write_text(recipe("Upload libraries")[0])
        (code,) = recipe(heading)
        (tmp_path / "recipe.js").write_text(code)
        (tmp_path / "entry.js").write_text('import * as recipe from "./recipe.js"; Object.assign(window, recipe);')
        esbuild = folder / "node_modules" / ".bin" / "esbuild"
        command = [str(esbuild), "entry.js", "--bundle", "--outfile=bundle.js"]
        done = subprocess.run([*command, "--format=esm"], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        page.goto(stack.app)
        if (styles := tmp_path / "bundle.css").exists():
            page.add_style_tag(path=styles)
        page.add_script_tag(path=tmp_path / "bundle.js", type="module")
        return owner

    return bundled


UPPY = ("@uppy/core@6.3.1", "@uppy/dashboard@6.0.3", "@uppy/aws-s3@6.3.1")
UPPY_RECIPES = pytest.mark.parametrize("heading", ["Uppy 6", "Uppy 6 with `@uppy/aws-s3`"])


@UPPY_RECIPES
def test_uppy_uploads_three_files(load: Load, page: Page, stack: Stack, films: list[Path], heading: str) -> None:
    owner = load(heading, *UPPY)
    page.locator("#uploader input[type=file]").first.set_input_files(films)
    page.get_by_role("button", name="Upload 3 files").click()
    _wait_for_three(stack, owner, page)
    page.locator(".uppy-StatusBar.is-complete").wait_for()


def test_uppys_buttons_pause_resume_and_retry_an_upload_in_parts(
    load: Load, page: Page, stack: Stack, big_file: Callable[[int], Path], films: list[Path]
) -> None:
    rejected = {films[1].name}
    _reject(page, stack, rejected.__contains__)
    owner = load("Uppy 6", *UPPY)
    _throttle(page, bytes_per_second=20_000_000)
    large = big_file(60_000_000)
    page.locator("#uploader input[type=file]").first.set_input_files([large, *films[:2]])
    page.get_by_role("button", name="Upload 3 files").click()
    until(page, f"{_file(large)}.progress.bytesUploaded > 20_000_000")
    item = page.locator(".uppy-Dashboard-Item", has_text="60000000.mp4")
    item.get_by_role("button", name="Pause upload").click()
    until(page, f"{_file(large)}.isPaused")
    until(page, f"{_file(films[0])}.progress.uploadComplete && {_file(films[1])}.error")
    assert page.evaluate(f"{_file(large)}.progress.uploadComplete") is False
    item.get_by_role("button", name="Resume upload").click()
    until(page, f"{_file(large)}.progress.uploadComplete")
    page.locator(".uppy-StatusBar.is-error").wait_for()
    failed = page.locator(".uppy-Dashboard-Item.is-error")
    assert films[1].name in failed.inner_text()
    assert "the size is 3 bytes" in page.evaluate(f"{_file(films[1])}.error")
    rejected.clear()
    failed.get_by_role("button", name="Retry upload").click()
    page.locator(".uppy-StatusBar.is-complete").wait_for()
    media = httpx.get(f"{stack.prefix}/?status=ready", headers=_bearer(owner)).json()["media"]
    assert sorted(item["size"] for item in media) == sorted(path.stat().st_size for path in (large, *films[:2]))


def test_uppy_pauses_and_resumes_all_and_cancels(
    load: Load, page: Page, stack: Stack, big_file: Callable[[int], Path]
) -> None:
    owner = load("Uppy 6", *UPPY)
    _throttle(page, bytes_per_second=20_000_000)
    page.locator("#uploader input[type=file]").first.set_input_files(big_file(60_000_000))
    page.get_by_role("button", name="Upload 1 file").click()
    until(page, "uppy.getFiles()[0].progress.bytesUploaded > 5_000_000")
    page.get_by_role("button", name="Pause", exact=True).click()
    until(page, "uppy.getFiles()[0].isPaused")
    page.get_by_role("button", name="Resume", exact=True).click()
    until(page, "uppy.getFiles()[0].progress.bytesUploaded > 20_000_000")
    with page.expect_response(lambda answer: answer.request.method == "DELETE") as deleted:
        page.locator(".uppy-StatusBar").get_by_role("button", name="Cancel").click()
    assert deleted.value.status == 200
    assert httpx.get(f"{stack.prefix}/", headers=_bearer(owner)).json()["media"] == []


def test_filepond_uploads_three_files(load: Load, page: Page, stack: Stack, films: list[Path]) -> None:
    owner = load("FilePond", "filepond@4.32.12")
    page.locator("input.filepond--browser").set_input_files(films)
    _wait_for_three(stack, owner, page)


def test_dropzone_uploads_three_files(load: Load, page: Page, stack: Stack, films: list[Path]) -> None:
    owner = load("Dropzone", "dropzone@6.3.5")
    page.locator("input.dz-hidden-input").set_input_files(films)
    until(page, "dropzone.files.length === 3 && dropzone.files.every(({ status }) => status === 'success')")
    _wait_for_three(stack, owner, page)


def test_dropzone_requests_a_form_once_its_file_is_the_next(
    load: Load, page: Page, stack: Stack, films: list[Path]
) -> None:
    load("Dropzone", "dropzone@6.3.5")
    steps: list[str] = []
    bucket = f"{stack.s3.endpoint_url}/{BUCKET}/"
    asks = {("POST", f"{stack.prefix}/upload"): "asked", ("POST", bucket): "sent"}
    page.on("request", lambda request: steps.append(asks.get((request.method, request.url), "")))
    page.wait_for_function("window.dropzone")
    page.evaluate("dropzone.options.parallelUploads = 1")
    page.locator("input.dz-hidden-input").set_input_files(films)
    until(page, "dropzone.files.length === 3 && dropzone.files.every(({ status }) => status === 'success')")
    assert [step for step in steps if step] == ["asked", "sent"] * 3


def test_dropzone_goes_on_with_the_next_file_after_refusals(
    load: Load, page: Page, stack: Stack, film: Path, tmp_path: Path
) -> None:
    load("Dropzone", "dropzone@6.3.5")
    notes = [tmp_path / "1.txt", tmp_path / "2.txt"]
    for path in notes:
        path.write_text("no video")
    page.locator("input.dz-hidden-input").set_input_files([*notes, film])
    until(page, "dropzone.files.length === 3 && dropzone.files[2].status === 'success'")
    assert page.evaluate("dropzone.files.map(({ status }) => status)") == ["error", "error", "success"]
    assert "text/plain" in page.locator(".dz-error-message").first.inner_text()


@UPPY_RECIPES
def test_uppy_shows_a_rejected_upload_as_failed(
    load: Load, page: Page, rejected: None, film: Path, heading: str
) -> None:
    load(heading, *UPPY)
    page.locator("#uploader input[type=file]").first.set_input_files(film)
    page.get_by_role("button", name="Upload 1 file").click()
    page.locator(".uppy-StatusBar.is-error").wait_for()
    assert page.locator(".uppy-StatusBar.is-complete").count() == 0
    assert "the size is 3 bytes" in page.evaluate("uppy.getFiles()[0].error")


def test_filepond_shows_why_an_upload_was_rejected(load: Load, page: Page, rejected: None, film: Path) -> None:
    load("FilePond", "filepond@4.32.12")
    page.locator("input.filepond--browser").set_input_files(film)
    expect(page.locator(".filepond--file-status-main")).to_contain_text("the size is 3 bytes")


def test_filepond_forgets_a_cancelled_upload_without_an_error(
    load: Load, page: Page, stack: Stack, big_file: Callable[[int], Path]
) -> None:
    owner = load("FilePond", "filepond@4.32.12")
    _throttle(page, bytes_per_second=4_000_000)
    page.locator("input.filepond--browser").set_input_files(big_file(20_000_000))
    until(page, "pond.getFiles()[0]?.status === 3")  # FilePond's FileStatus.PROCESSING
    until(page, "performance.getEntriesByType('resource').some(({ name }) => name.endsWith('/upload'))")
    page.evaluate("window.failures = []; pond.on('error', ({ body }) => failures.push(body))")
    with page.expect_response(lambda answer: answer.request.method == "DELETE") as deleted:
        page.get_by_role("button", name="Cancel").click()
    assert deleted.value.status == 200
    expect(page.locator(".filepond--item")).to_have_count(0)
    assert page.evaluate("failures") == []
    assert httpx.get(f"{stack.prefix}/", headers=_bearer(owner)).json()["media"] == []


def test_filepond_undo_deletes_the_media(load: Load, page: Page, stack: Stack, film: Path) -> None:
    owner = load("FilePond", "filepond@4.32.12")
    requests: list[str] = []
    page.on("request", lambda request: requests.append(f"{request.method} {request.url}"))
    page.locator("input.filepond--browser").set_input_files(film)
    until(page, "pond.getFiles()[0]?.status === 5")  # FilePond's FileStatus.PROCESSING_COMPLETE
    media_id = page.evaluate("pond.getFiles()[0].serverId")
    with page.expect_response(lambda response: response.request.method == "DELETE") as deleted:
        page.evaluate("pond.removeFile(0, { revert: true })")
    assert (deleted.value.url, deleted.value.status) == (f"{stack.prefix}/{media_id}", 200)
    assert httpx.get(f"{stack.prefix}/{media_id}", headers=_bearer(owner)).status_code == 404
    assert [request for request in requests if request.startswith(f"DELETE {stack.app}")] == []


def test_dropzone_shows_a_rejected_upload_as_failed(load: Load, page: Page, rejected: None, film: Path) -> None:
    load("Dropzone", "dropzone@6.3.5")
    page.locator("input.dz-hidden-input").set_input_files(film)
    until(page, "dropzone.files[0]?.status === 'error'")
    assert page.locator(".dz-success").count() == 0
    assert "the size is 3 bytes" in page.locator(".dz-error-message").inner_text()


def test_a_file_without_a_type_is_sent_with_that_of_its_extension(load: Load, page: Page, stack: Stack) -> None:
    owner = load("Dropzone", "dropzone@6.3.5")
    page.wait_for_function("window.dropzone")
    page.evaluate("dropzone.addFile(new File(['a film'], 'trip.MOV'))")
    until(page, "dropzone.files[0]?.status === 'success' || dropzone.files[0]?.status === 'error'")
    assert page.locator(".dz-error-message").inner_text() == ""
    until(page, "dropzone.files[0].issued !== undefined")
    media = httpx.get(f"{stack.prefix}/", headers=_bearer(owner)).json()["media"]
    assert (media[0]["filename"], media[0]["content_type"]) == ("trip.MOV", "video/quicktime")


@pytest.mark.parametrize(
    ("heading", "spec", "selector", "style", "value"),
    [
        ("FilePond", "filepond@4.32.12", ".filepond--root", "position", "relative"),
        ("Dropzone", "dropzone@6.3.5", "#uploader", "minHeight", "150px"),
    ],
)
def test_a_recipe_comes_with_its_librarys_styles(
    load: Load, page: Page, heading: str, spec: str, selector: str, style: str, value: str
) -> None:
    load(heading, spec)
    page.locator(selector).first.wait_for()
    assert page.evaluate(f"getComputedStyle(document.querySelector({selector!r})).{style}") == value


@pytest.fixture
def rejected(page: Page, stack: Stack) -> None:
    """Let the broker reject each upload."""
    _reject(page, stack, lambda name: True)


BEFORE_COMPLETE = """{
    const ask = window.fetch;
    const names = {};
    window.fetch = async (url, options) => {
        const [mediaId, step] = String(url).split("/").slice(-2);
        if (step === "complete") await overwrite(mediaId, names[mediaId]);
        const response = await ask(url, options);
        if (step === "upload") names[(await response.clone().json()).media_id] = JSON.parse(options.body).filename;
        return response;
    };
}"""
"""Calls `overwrite` before each completion. To intercept requests instead would slow uploads down."""


def _reject(page: Page, stack: Stack, is_rejected: Callable[[str], bool]) -> None:
    """Overwrite the staging objects of some files just before they are completed: the broker then rejects them."""

    def overwrite(media_id: str, name: str) -> None:
        if is_rejected(name):
            key = staging_key(UUID(media_id))
            stack.s3_client().put_object(Bucket=BUCKET, Key=key, Body=b"abc", ContentType="video/mp4")

    page.expose_function("overwrite", overwrite)
    page.add_init_script(BEFORE_COMPLETE)


def _file(path: Path) -> str:
    """Return the expression for one of Uppy's files."""
    return f"uppy.getFiles().find(({{ name }}) => name === {path.name!r})"


def _throttle(page: Page, *, bytes_per_second: int) -> None:
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    limits = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_second}
    session.send("Network.emulateNetworkConditions", limits)


def _bearer(owner: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(owner)}"}


def _wait_for_three(stack: Stack, owner: str, page: Page) -> None:
    """Wait until the owner has three ready media, each with its file's name."""
    headers = {"Authorization": f"Bearer {token(owner)}"}
    for _ in range(100):
        media = httpx.get(f"{stack.prefix}/?status=ready", headers=headers).json()["media"]
        if len(media) == 3:
            break
        page.wait_for_timeout(100)
    assert sorted(item["filename"] for item in media) == ["part 1.mp4", "part 2.mp4", "part 3.mp4"]
