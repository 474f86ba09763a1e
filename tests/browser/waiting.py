"""Waiting for a condition on a page."""

import time

from playwright.sync_api import Page

TIMEOUT_SECONDS = 60


def until(page: Page, expression: str) -> None:
    """Wait until a JavaScript expression is true.

    A strict Content-Security-Policy forbids Playwright's wait_for_function.
    """
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"{expression} did not become true"
        page.wait_for_timeout(50)
