"""The word check finds each kind of violation, and the repository has none."""

import pytest

from tests.support.words import AVOIDED, QUOTED, report, violations


@pytest.mark.parametrize("word", AVOIDED)
def test_each_avoided_word_is_found_in_any_case(word: str) -> None:
    assert list(violations("guide.md", f"A line.\nThe broker {word.upper()} it.")) == [
        (2, f"{word!r}: write {AVOIDED[word]}")
    ]


@pytest.mark.parametrize("quotation", QUOTED)
def test_a_quotation_keeps_its_words(quotation: str) -> None:
    assert list(violations("guide.md", quotation)) == []


def test_a_word_that_only_contains_an_avoided_one_is_accepted() -> None:
    assert list(violations("guide.md", "We recommend an amendment; it cannot fail.")) == []


def test_an_avoided_word_is_found_across_a_line_break() -> None:
    assert [line for line, _ in violations("guide.md", "It can\nnot be.")] == [1]


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("module.py", '"""What a module does."""\n', 1),
        ("module.py", 'def run() -> None:\n    """How it runs."""\n', 2),
        ("module.py", 'class Size:\n    """Whether it is large."""\n', 2),
        ("module.py", '"""\nWho calls it.\n"""\n', 1),
        ("module.js", "let a;\n/** What it is. */\n", 2),
        ("types.d.ts", "/**\n * How it works.\n */\n", 1),
    ],
)
def test_a_docstring_that_begins_with_a_question_word_is_found(name: str, text: str, line: int) -> None:
    assert [place for place, _ in violations(name, text)] == [line]


def test_a_string_that_is_no_docstring_may_begin_with_a_question_word() -> None:
    assert list(violations("module.py", 'QUESTION = "What now?"\nprint("How?")\n')) == []


def test_the_repository_avoids_these_words() -> None:
    assert report() == []
