"""The recipes of the guides, extracted unchanged."""

import re
from pathlib import Path

INFRA = Path(__file__).parents[2] / "infra"
CLIENTS = INFRA / "clients.md"
APPLICATION = INFRA / "guides" / "application.md"


def recipe(heading: str, language: str = "js", *, guide: Path = CLIENTS) -> list[str]:
    """Return the code blocks of one language under a heading of a guide, up to the next heading."""
    text = guide.read_text("utf-8")
    section = re.search(rf"^#+ {re.escape(heading)}$(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    assert section, f"{guide} has no heading {heading}"
    return re.findall(rf"^```{language}\n(.*?)^```", section[1], re.MULTILINE | re.DOTALL)
