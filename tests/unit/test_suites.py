"""The imports of the tests themselves: each suite stands alone, on what tests/support shares."""

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]


def imported(path: Path) -> Iterator[str]:
    """Yield the full name of each module of the tests that a module imports, or imports something from."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.startswith("tests."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "tests":
            yield from (f"{node.module}.{name.name}" for name in node.names)


def test_a_suite_imports_from_itself_and_from_support_alone() -> None:
    modules = sorted(TESTS.rglob("*.py"))
    assert len(modules) > 150
    foreign = []
    for path in modules:
        suite = path.relative_to(TESTS).parts[0]
        for name in imported(path):
            _, room, module, *_ = [*name.split("."), ""]
            if room not in {suite, "support"} or module.startswith("test_"):
                foreign.append(f"{path.relative_to(TESTS)} imports {name}")
    assert foreign == [], (
        "move what two suites or two modules of tests need to tests/support or the suite's own modules"
    )
