"""The diagram in the README equals the table of transitions."""

from pathlib import Path

from broker.domain.media import TRANSITIONS
from tests.unit.diagram import state_diagram

README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- the life of a media: begin -->", "<!-- the life of a media: end -->"


def test_the_readme_shows_the_current_table() -> None:
    _, begin, rest = README.read_text().partition(BEGIN)
    block, end, after = rest.partition(END)

    assert (begin, end) == (BEGIN, END)
    assert BEGIN not in after
    assert block == f"\n```mermaid\n{state_diagram()}\n```\n", "print it anew with: python -m tests.unit.diagram"


def test_every_row_of_the_table_is_one_arrow() -> None:
    arrows = state_diagram().splitlines()[1:]

    assert arrows[0] == "    [*] --> pending: issue"
    assert arrows[-1] == "    deleted --> [*]"
    assert len(arrows) == len(TRANSITIONS) + 2
