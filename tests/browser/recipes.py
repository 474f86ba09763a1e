"""The recipes of `infra/clients.md`, extracted unchanged."""

import re
from pathlib import Path

CLIENTS = Path(__file__).parents[2] / "infra" / "clients.md"


def recipe(heading: str, language: str = "js") -> list[str]:
    """Return the code blocks of one language under a heading, up to the next heading."""
    text = CLIENTS.read_text("utf-8")
    section = re.search(rf"^#+ {re.escape(heading)}$(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    assert section, f"{CLIENTS} has no heading {heading}"
    return re.findall(rf"^```{language}\n(.*?)^```", section[1], re.MULTILINE | re.DOTALL)
