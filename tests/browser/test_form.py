"""The plain form, with JavaScript disabled."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.stack import BUCKET, Stack, token


@pytest.fixture
def plain_page(browser: Browser) -> Iterator[Page]:
    """Open a page with JavaScript disabled."""
    context = browser.new_context(java_script_enabled=False)
    context.set_default_timeout(60_000)
    yield context.new_page()
    context.close()


def test_a_form_uploads_and_returns_to_the_apps_page_and_reloading_is_harmless(
    plain_page: Page, stack: Stack, film: Path
) -> None:
    urls: list[str] = []
    plain_page.on("request", lambda request: urls.append(request.url))
    open_form(plain_page, stack)
    plain_page.set_input_files("input[type=file]", film)
    plain_page.get_by_role("button", name="Upload").click()
    plain_page.wait_for_url(re.compile(r"/form/done\?media_id=[0-9a-f-]+&status=ready$"))
    expect(plain_page.locator("video")).to_have_attribute("src", re.compile("^" + stack.s3.endpoint_url))
    landed = plain_page.url
    (returned,) = [url for url in urls if "/uploaded/" in url]
    plain_page.goto(returned)
    assert plain_page.url == landed


def test_opening_the_page_issues_nothing_and_its_upload_has_the_chosen_name(plain_page: Page, stack: Stack) -> None:
    name = f"{uuid4().hex}.mp4"
    before = _names(stack)
    plain_page.goto(f"{stack.broker}/form")
    assert _names(stack) == before
    open_form(plain_page, stack, name)
    plain_page.reload()
    assert _names(stack) == [name, *before]


def _names(stack: Stack) -> list[str]:
    page = httpx.get(f"{stack.prefix}/?limit=100", headers={"Authorization": f"Bearer {token()}"}).json()
    return [media["filename"] for media in page["media"]]


def test_another_type_ends_at_s3s_refusal(plain_page: Page, stack: Stack, film: Path) -> None:
    plain_page.route("**/form/upload?*", lambda route: _with_other_type(route.fetch().text(), route))
    open_form(plain_page, stack)
    plain_page.set_input_files("input[type=file]", film)
    with plain_page.expect_response(f"{stack.s3.endpoint_url}/{BUCKET}/") as answered:
        plain_page.get_by_role("button", name="Upload").click()
    assert answered.value.status == 403
    assert "<Code>AccessDenied</Code>" in answered.value.text()


def test_a_file_that_is_too_large_ends_at_s3s_refusal(
    plain_page: Page, stack: Stack, big_file: Callable[[int], Path]
) -> None:
    open_form(plain_page, stack)
    plain_page.set_input_files("input[type=file]", big_file(100_000_001))
    with plain_page.expect_response(f"{stack.s3.endpoint_url}/{BUCKET}/") as answered:
        plain_page.get_by_role("button", name="Upload").click()
    assert answered.value.status == 400
    assert "<Code>EntityTooLarge</Code>" in answered.value.text()


def test_a_foreign_redirect_is_refused(stack: Stack) -> None:
    request = {"content_type": "video/mp4", "redirect_url": "https://elsewhere.example/"}
    answer = httpx.post(f"{stack.prefix}/upload", json=request, headers=_bearer())
    assert answer.status_code == 422
    assert answer.json()["type"].endswith(":redirect-not-allowed")


@pytest.mark.parametrize("damage", [str.swapcase, lambda state: state[:-1], lambda state: "forged"])
def test_an_altered_state_changes_nothing(stack: Stack, film: Path, damage: Callable[[str], str]) -> None:
    request = {"content_type": "video/mp4", "redirect_url": f"{stack.app}/"}
    issued = httpx.post(f"{stack.prefix}/upload", json=request, headers=_bearer()).json()
    upload, media_id = issued["upload"], issued["media_id"]
    posted = httpx.post(upload["url"], data=upload["fields"], files={"file": film.read_bytes()})
    assert posted.status_code == 303
    state = urlsplit(posted.headers["location"]).path.rpartition("/")[2]
    altered = httpx.get(f"{stack.prefix}/{media_id}/uploaded/{damage(state)}")
    assert altered.status_code == 404
    assert httpx.get(f"{stack.prefix}/{media_id}", headers=_bearer()).json()["media_status"] == "pending"
    honest = httpx.get(posted.headers["location"])
    assert honest.headers["location"] == f"{stack.app}/?media_id={media_id}&status=ready"


def open_form(page: Page, stack: Stack, name: str = "film.mp4") -> None:
    """Choose a name and keep the first type, so that the page shows the signed form."""
    page.goto(f"{stack.broker}/form")
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Continue").click()
    page.locator("input[type=file]").wait_for()


def _with_other_type(page: str, route: object) -> None:
    assert 'name="Content-Type" value="video/mp4"' in page
    route.fulfill(  # type: ignore[attr-defined]
        body=page.replace('name="Content-Type" value="video/mp4"', 'name="Content-Type" value="text/html"'),
        content_type="text/html",
    )


def _bearer() -> dict[str, str]:
    return {"Authorization": f"Bearer {token('form')}"}
