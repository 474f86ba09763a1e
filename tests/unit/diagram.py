"""The life of a media as a Mermaid diagram, drawn from the table: `python -m tests.unit.diagram`."""

from broker.domain.media import INITIAL, TRANSITIONS, State


def state_diagram() -> str:
    """Return TRANSITIONS as a Mermaid `stateDiagram-v2`; states that no event leaves are its ends."""
    sources = {row.source for row in TRANSITIONS}
    lines = ["stateDiagram-v2", f"    [*] --> {INITIAL}: issue"]
    lines += [f"    {row.source} --> {row.target}: {row.event}" for row in TRANSITIONS]
    lines += [f"    {state} --> [*]" for state in State if state not in sources]
    return "\n".join(lines)


if __name__ == "__main__":
    print(state_diagram())  # noqa: T201
