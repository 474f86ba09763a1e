"""Wait for what a page shows."""

import time

from playwright.sync_api import Page

PATIENCE_SECONDS = 20


def until(page: Page, expression: str) -> None:
    """Wait until a JavaScript expression is true. A strict Content-Security-Policy forbids Playwright's own way."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"{expression} did not become true"
        page.wait_for_timeout(50)
