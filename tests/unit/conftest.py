"""The summary of the unit tests."""

import pytest

from tests.support.botocore_judge import compared


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Report the number of signatures that were compared with botocore's."""
    if compared:
        counts = ", ".join(f"{count} {name}" for name, count in sorted(compared.items()))
        terminalreporter.write_line(f"equal to botocore's, byte for byte: {counts}, {compared.total()} in all")
