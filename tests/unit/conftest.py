"""What the unit tests tell when they are done."""

import pytest

from tests.unit.botocore_judge import compared


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many signatures were compared with botocore's."""
    if compared:
        counts = ", ".join(f"{count} {name}" for name, count in sorted(compared.items()))
        terminalreporter.write_line(f"equal to botocore's, byte for byte: {counts}, {compared.total()} in all")
