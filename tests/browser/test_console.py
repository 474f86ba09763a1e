"""The demo console, as a person uses it: choose, watch, play, seek, delete."""

from pathlib import Path

from playwright.sync_api import Page, expect

from .stack import Stack
from .waiting import until


def test_a_chosen_film_is_uploaded_played_and_deleted(page: Page, stack: Stack, film: Path) -> None:
    page.goto(stack.broker)
    page.set_input_files("#files", film)
    row = page.locator("#queue .row")
    expect(row.locator(".state")).to_have_text("Ready")
    video = page.locator("#video")
    row.get_by_role("button", name="Play harbour.mp4").click()
    until(page, "document.querySelector('video').readyState >= 2")
    assert page.evaluate("document.querySelector('video').videoWidth") == 640
    expect(page.locator("#player-title")).to_have_text("harbour.mp4")

    delete = page.locator("#library").get_by_role("button", name="Delete harbour.mp4")
    delete.click()
    page.get_by_role("button", name="Keep it").click()
    expect(delete).to_have_count(1)
    delete.click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(delete).to_have_count(0)
    expect(video).to_be_hidden()
