"""The docstring of an error is the message that its caller reads."""

import ast
from collections import defaultdict
from pathlib import Path
from string import Formatter

import pytest

import broker
from broker import errors
from broker.errors import BrokerError, SizeNotAllowed

ERRORS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BrokerError)]


def facts_of(error: type[BrokerError]) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(error.__doc__ or "") if name is not None}


def made() -> dict[str, list[tuple[str, set[str]]]]:
    """Return each place in the broker that creates an error, with the names of its facts."""
    names = {error.__name__ for error in ERRORS}
    found = defaultdict(list)
    for path in sorted(Path(broker.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), keywords=keywords) if name in names:
                    facts = {keyword.arg for keyword in keywords if keyword.arg}
                case ast.Raise(exc=ast.Name(id=name) | ast.Attribute(attr=name)) if name in names:
                    facts = set()
                case _:
                    continue
            found[name].append((f"{path.name}:{node.lineno}", facts))
    return found


MADE = made()


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_a_message_is_one_line_that_shows_each_fact(error: type[BrokerError]) -> None:
    facts = {name: number for number, name in enumerate(sorted(facts_of(error)), start=101)}

    message = str(error(**facts))

    assert message
    assert "\n" not in message
    assert not set(message) & set("{}")
    assert [str(number) for number in facts.values() if str(number) not in message] == []


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_is_created_with_the_facts_of_its_message(error: type[BrokerError]) -> None:
    assert [place for place, facts in MADE[error.__name__] if not facts_of(error) <= facts] == []


def test_an_error_keeps_its_facts() -> None:
    error = SizeNotAllowed(size=7, max_size=5)

    assert error.facts == {"size": 7, "max_size": 5}
    assert str(error) == "The size of 7 bytes is not allowed; allowed are 1 to 5 bytes."
