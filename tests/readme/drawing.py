"""The parts of the guides and of the browser helper that are drawn from the code.

`python -m tests.readme.drawing` writes them. In a guide each part is between `<!-- NAME: … -->` and `<!-- /NAME -->`;
text written there by hand is overwritten.
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from inspect import cleandoc
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from broker.api.problems import PROBLEMS
from broker.domain.video_types import VIDEO_TYPES
from broker.settings import Settings, environment_name

ROOT = Path(__file__).parents[2]
HELPER = ROOT / "broker" / "web" / "upload" / "video-types.js"
GUIDES = ROOT / "infra" / "guides"
REQUIRED = frozenset({"bucket_name", "secret_key"})
"""The required settings; their defaults are placeholders that a start refuses."""
PLACEHOLDER = re.compile(r"\{(\w+)[^}]*\}")
"""A placeholder for a fact in an error's docstring."""


def settings_table() -> str:
    """Return a table with a row for each setting: its environment variable, default and description."""
    rows = (
        (f"`{environment_name(name)}`", _default(name, field), _cell(field.description or ""))
        for name, field in Settings.model_fields.items()
    )
    return _table(("Setting", "Default", "What it does"), rows)


def errors_table() -> str:
    """Return a table with a row for each problem: status, type, message (facts in italics), Retry-After."""
    rows = (
        (
            str(problem.status),
            f"`{problem.slug}`",
            _cell(PLACEHOLDER.sub(r"*\1*", cleandoc(kind.__doc__ or ""))),
            "" if problem.retry_after is None else f"{problem.retry_after} s",
        )
        for kind, problem in sorted(PROBLEMS.items(), key=lambda row: row[1].status)
    )
    return _table(("Status", "Type: `urn:s3-media:problem:…`", "What it says", "Retry-After"), rows)


@dataclass(frozen=True)
class Part:
    """A part of a guide: the file, the name between its marks, and the function that draws it."""

    guide: Path
    name: str
    draw: Callable[[], str]

    def redrawn(self, text: str) -> str:
        """Return the guide's text with the part redrawn. Raises ValueError if it does not have exactly one place."""
        place = re.compile(rf"(<!-- {self.name}: [^>]*-->\n).*?(<!-- /{self.name} -->)", re.DOTALL)
        places = place.findall(text)
        if len(places) != 1:
            raise ValueError(f"{self.guide.name} has {len(places)} places for {self.name}, not one")
        ((begin, end),) = places
        return place.sub(lambda _: f"{begin}\n{self.draw()}\n\n{end}", text)


PARTS = (
    Part(GUIDES / "settings.md", "settings", settings_table),
    Part(GUIDES / "errors.md", "errors", errors_table),
)


def helper_with_types(text: str) -> str:
    """Return the browser helper's text with its table of video types redrawn."""
    rows = "".join(f"  {json.dumps(row)},\n" for row in VIDEO_TYPES)
    place = re.compile(r"(// video types: [^\n]*\n).*?(// end of the video types\n)", re.DOTALL)
    return place.sub(lambda match: f"{match[1]}const TYPES = [\n{rows}];\n{match[2]}", text)


def _default(name: str, field: FieldInfo) -> str:
    value: Any = field.default
    if name in REQUIRED:
        return "required"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value is None or value == ():
        return "unset"
    if isinstance(value, bool):
        shown = str(value).lower()
    else:
        shown = ",".join(value) if isinstance(value, tuple) else str(value)
    return f"`{shown}`{_bounds(field)}"


def _bounds(field: FieldInfo) -> str:
    """Return the bounds of a number, such as `, 1 to 3600`."""
    bounds = {
        name: getattr(rule, name) for rule in field.metadata for name in ("ge", "gt", "le") if hasattr(rule, name)
    }
    lowest = f"over {bounds['gt']}" if "gt" in bounds else bounds.get("ge")
    if "le" in bounds:
        return f", {lowest} to {bounds['le']}"
    return f", {lowest}" if "gt" in bounds else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    for part in PARTS:
        part.guide.write_text(part.redrawn(part.guide.read_text("utf-8")), "utf-8")
    HELPER.write_text(helper_with_types(HELPER.read_text("utf-8")), "utf-8")
