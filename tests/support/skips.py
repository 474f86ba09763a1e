"""Skipped tests: one line of the summary for each folder and reason. In CI a skipped test fails."""

import os
from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Report a skip at the test's folder. pytest folds skips at the same place and for the same reason into one line.

    Without this, a fixture that skips for a missing program takes a line for each test that requests it.
    """
    report = yield
    if not report.skipped or hasattr(report, "wasxfail"):
        return report
    assert isinstance(report.longrepr, tuple)
    reason = report.longrepr[2].removeprefix("Skipped: ")
    if os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"CI allows no skipped test: {reason}"
    else:
        report.longrepr = (str(item.path.parent), None, f"Skipped: {reason}")  # type: ignore[assignment]
    return report
