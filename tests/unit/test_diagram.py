"""The diagram in the guide equals the table of transitions."""

from pathlib import Path

from broker.domain.media import TRANSITIONS
from tests.unit.diagram import state_diagram

GUIDE = Path(__file__).parents[2] / "infra" / "guides" / "completion.md"
BEGIN, END = "<!-- the life of a media: begin -->", "<!-- the life of a media: end -->"


def test_the_guide_shows_the_current_table() -> None:
    _, begin, rest = GUIDE.read_text().partition(BEGIN)
    block, end, after = rest.partition(END)

    assert (begin, end) == (BEGIN, END)
    assert BEGIN not in after
    assert block == f"\n```mermaid\n{state_diagram()}\n```\n", "print it anew with: python -m tests.unit.diagram"


def test_every_row_of_the_table_is_one_arrow() -> None:
    arrows = state_diagram().splitlines()[1:]

    assert arrows[0] == "    [*] --> pending: issue"
    assert arrows[-1] == "    deleted --> [*]"
    assert len(arrows) == len(TRANSITIONS) + 2
