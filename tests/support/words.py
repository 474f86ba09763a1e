"""The word check: words and docstrings that plain English avoids. `python -m tests.support.words` lists each place."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("broker", "tests", "infra", ".ci")
SUFFIXES = frozenset({".css", ".html", ".js", ".json", ".md", ".mjs", ".py", ".service", ".sh", ".tf", ".ts", ".yaml"})
GENERATED = frozenset({"__pycache__", ".terraform", "node_modules"})
AVOIDED = {
    "can not": "cannot",
    "whoever": "a noun, such as caller or owner",
    "nobody": "no client, no caller",
    "somebody": "a noun, such as caller or owner",
    "mend": "fix",
    "mends": "fixes",
    "mended": "fixed",
    "mending": "fixing",
}
"""Each avoided word, with its replacement."""
QUOTED = ("can not have more than one wildcard", '"nobody"', "neither postgres nor nobody")
"""Quotations, which keep their words: a message of AWS, and an account of Unix."""
OPENINGS = ("What", "How", "Who", "Whether")
"""Words that the docstring of a module, class or function never begins with."""

_AVOIDED = re.compile(r"(?<![a-zA-Z])(?:{})(?![a-zA-Z])".format("|".join(AVOIDED).replace(" ", r"\s+")), re.IGNORECASE)
_QUOTED = re.compile("|".join(map(re.escape, QUOTED)))
_OPENING = re.compile(r"(?:{})\b".format("|".join(OPENINGS)))
_JS_COMMENT = re.compile(r"/\*\*\s*(?:\*\s*)?")


def violations(name: str, text: str) -> Iterator[tuple[int, str]]:
    """Yield the line number and the description of each violation in a file's text."""
    unquoted = _QUOTED.sub(lambda match: " " * len(match[0]), text)
    for match in _AVOIDED.finditer(unquoted):
        word = " ".join(match[0].lower().split())
        yield _line(text, match.start()), f"{word!r}: write {AVOIDED[word]}"
    if name.endswith(".py"):
        openings = _docstrings(text)
    elif name.endswith((".js", ".mjs", ".ts")):
        openings = ((_line(text, match.start()), text[match.end() :]) for match in _JS_COMMENT.finditer(text))
    else:
        return
    for line, docstring in openings:
        if opening := _OPENING.match(docstring):
            yield line, f"the docstring begins with {opening[0]!r}: name its subject"


def _docstrings(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of the docstrings of a module, its classes and its functions."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring is not None:
                yield node.body[0].lineno, docstring


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def files() -> Iterator[Path]:
    """Yield the checked files: code, tests, infrastructure and documents, except this list of words and its test."""
    exempt = {Path(__file__).resolve(), ROOT / "tests" / "readme" / "test_words.py"}
    yield from sorted(ROOT.glob("*.md"))
    yield from (ROOT / name for name in ("Makefile", "pyproject.toml"))
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            checked = path.suffix in SUFFIXES or path.name == "Dockerfile" or path.parent.name == ".ci"
            if path.is_file() and checked and GENERATED.isdisjoint(path.parts) and path not in exempt:
                yield path


def report() -> list[str]:
    """Return a line for each violation in the repository, such as `broker/app.py:12: 'mend': write fix`."""
    return [
        f"{path.relative_to(ROOT)}:{line}: {problem}"
        for path in files()
        for line, problem in violations(path.name, path.read_text("utf-8"))
    ]


if __name__ == "__main__":
    lines = report()
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.exit(1 if lines else 0)
