"""Every shell block of every guide is run by a test, or says why not."""

import re

import pytest

from tests.readme.blocks import GUIDES, commands, marked
from tests.support.processes import ROOT

RUN = {
    call
    for path in (ROOT / "tests").rglob("test_*.py")
    for call in re.findall(r'\bcommands\("([^"]+)", "([^"]+)"\)', path.read_text("utf-8"))
}
"""The guide and the name of each block that a test gets."""


@pytest.mark.parametrize("guide", GUIDES)
def test_each_block_is_run_or_says_why_not(guide: str) -> None:
    neither = [
        block
        for mark, block in marked((ROOT / guide).read_text("utf-8"))
        if not (mark and mark.startswith("not run: ")) and (guide, str(mark).removeprefix("run: ")) not in RUN
    ]
    assert neither == []


@pytest.mark.parametrize(("guide", "name"), sorted(RUN))
def test_each_block_that_a_test_runs_exists(guide: str, name: str) -> None:
    assert commands(guide, name)


def test_a_mark_ends_at_the_next_mark_or_heading() -> None:
    first = "<!-- run: a -->\n```sh\n1\n```\n```js\nx\n```\n```sh\n2\n```\n"
    text = f"{first}# H\n```sh\n# 3\n```\n<!-- not run: b -->\n```sh\n4\n```\n"
    assert list(marked(text)) == [("run: a", "1\n"), ("run: a", "2\n"), (None, "# 3\n"), ("not run: b", "4\n")]
