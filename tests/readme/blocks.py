"""The shell blocks of the guides, and the marks that say which test runs each.

`<!-- run: NAME -->` names the blocks that follow it, up to the next mark or heading; a test gets them by
`commands(GUIDE, NAME)`. `<!-- not run: REASON -->` says why no test runs them.
"""

import re
from collections.abc import Iterator

from tests.support.processes import ROOT

GUIDES = (
    *("README.md", "CONTRIBUTING.md", "SECURITY.md", "infra/README.md", "infra/clients.md"),
    *("tests/README.md", "tests/bench/README.md"),
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "infra" / "guides").rglob("*.md")),
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "broker").rglob("*.md")),
)
_PLACE = re.compile(
    r"^(?:#+ |<!-- (?P<mark>(?:not )?run: [^>]+?) -->$|```(?P<language>\w*)\n(?P<block>.*?)^```$)",
    re.MULTILINE | re.DOTALL,
)
SHELLS = frozenset({"sh", "bash", "console", "shell"})


def marked(text: str) -> Iterator[tuple[str | None, str]]:
    """Yield each shell block of a guide's text with its mark, such as `run: start`, or None without one."""
    mark = None
    for place in _PLACE.finditer(text):
        if place["language"] in SHELLS:
            yield mark, place["block"]
        elif place["block"] is None:
            mark = place["mark"]


def commands(guide: str, name: str) -> str:
    """Return the blocks of `guide` that are marked with `name`, joined in order. Raises LookupError without any."""
    blocks = [block for mark, block in marked((ROOT / guide).read_text("utf-8")) if mark == f"run: {name}"]
    if not blocks:
        raise LookupError(f"{guide} has no block that is marked `run: {name}`")
    return "\n".join(blocks)
