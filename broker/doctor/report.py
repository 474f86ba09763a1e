"""The report: a table for people with the fixes below it, or one JSON document."""

import json
from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from broker.doctor.finding import Finding, Verdict

STYLES = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "bold red", Verdict.SKIP: "dim"}


def has_failed(findings: Sequence[Finding]) -> bool:
    """Return whether any check failed; warnings do not count."""
    return any(finding.verdict is Verdict.FAIL for finding in findings)


def as_json(findings: Sequence[Finding]) -> str:
    """Return `{"success", "counts", "findings"}`."""
    counts = Counter(finding.verdict for finding in findings)
    document = {
        "success": not has_failed(findings),
        "counts": {verdict.value: counts[verdict] for verdict in Verdict},
        "findings": [finding.to_json() for finding in findings],
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def show(findings: Sequence[Finding], console: Console) -> None:
    """Print the loud findings, the table, and the cause and fix of each warning and failure."""
    for finding in findings:
        if finding.loud:
            console.print(Panel(Text(finding.detail), title="STOP", border_style="bold red", style="bold red"))
    table = Table(box=None, pad_edge=False)
    for column in ("check", "", "detail"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        style = STYLES[finding.verdict]
        table.add_row(Text(finding.check), Text(finding.verdict, style), Text(finding.detail))
    console.print(table)
    for finding in findings:
        if finding.verdict in {Verdict.WARN, Verdict.FAIL}:
            _show_fix(finding, console)
    counts = Counter(finding.verdict for finding in findings)
    console.print()
    console.print(Text(", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict])))


def _show_fix(finding: Finding, console: Console) -> None:
    console.print()
    console.print(Text.assemble((finding.check, STYLES[finding.verdict]), f": {finding.detail}"), soft_wrap=True)
    lines = [("cause", finding.cause), ("fix", finding.fix), ("Terraform", finding.terraform)]
    for label, text in lines:
        if text:
            # Not wrapped, so that a command can be copied.
            console.print(Text(f"  {label + ':':<10} {text}"), soft_wrap=True)
