"""The parts of README.md and of the browser helper that are drawn from the code.

`python -m tests.readme.drawing [README.md]` writes them. In README each part is between `<!-- NAME: … -->` and
`<!-- /NAME -->`; text written there by hand is overwritten.
"""

import json
import re
import sys
from collections.abc import Iterable
from inspect import cleandoc
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from broker.api.problems import PROBLEMS
from broker.domain.video_types import VIDEO_TYPES
from broker.settings import Settings, environment_name

HELPER = Path(__file__).parents[2] / "broker" / "web" / "upload" / "video-types.js"
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


PARTS = {"settings": settings_table, "errors": errors_table}


def rewritten(text: str) -> str:
    """Return README's text with each part redrawn. Raises ValueError if a part does not have exactly one place."""
    for name, draw in PARTS.items():
        place = re.compile(rf"(<!-- {name}: [^>]*-->\n).*?(<!-- /{name} -->)", re.DOTALL)
        places = place.findall(text)
        if len(places) != 1:
            raise ValueError(f"README has {len(places)} places for {name}, not one")
        ((begin, end),) = places
        text = place.sub(lambda _: f"{begin}\n{draw()}\n\n{end}", text)  # noqa: B023 - called at once
    return text


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
    if "le" in bounds:
        return f", {bounds['ge']} to {bounds['le']}"
    return f", over {bounds['gt']}" if "gt" in bounds else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    readme = Path(sys.argv[1] if len(sys.argv) > 1 else "README.md")
    readme.write_text(rewritten(readme.read_text("utf-8")), "utf-8")
    HELPER.write_text(helper_with_types(HELPER.read_text("utf-8")), "utf-8")
