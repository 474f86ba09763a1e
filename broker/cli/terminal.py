"""The output of the commands: lines on standard output, errors on standard error, and the exit status."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, NoReturn

import typer

from broker.errors import BrokerError, DatabaseUnavailable, SettingsInvalid

if TYPE_CHECKING:
    from rich.console import Console

REFUSED = 2
"""The exit status if the caller has to fix something first: an option, a setting, a pending migration."""


@cache
def out() -> "Console":
    """Return the console of standard output. Rich is loaded only by commands that print."""
    from rich.console import Console

    return Console(emoji=False)


@cache
def err() -> "Console":
    """Return the console of standard error."""
    from rich.console import Console

    return Console(stderr=True, emoji=False)


@contextmanager
def errors_as_exit_status() -> Iterator[None]:
    """Print the errors of the body as lines, and exit with a status."""
    try:
        yield
    except SettingsInvalid as error:
        refuse(*str(error).splitlines())
    except DatabaseUnavailable as error:
        refuse(str(error), *([error.reason] if error.__cause__ else []), status=1)
    except BrokerError as error:
        refuse(str(error), status=1)


def refuse(*reasons: str, status: int = REFUSED) -> NoReturn:
    """Print the reasons on standard error, and exit with `status`."""
    for reason in reasons:
        complain(reason)
    raise typer.Exit(status)


def ask(question: str, *, option: str) -> str:
    """Return the answer to a question on standard error; `option` gives it without a terminal."""
    return _answer_to(f"{question}: ") or refuse(f"{option}: should be given")


def confirm(question: str) -> None:
    """Ask on standard error whether to go on. Raises typer.Abort unless the answer is yes."""
    if _answer_to(f"{question} [y/N]: ").lower() not in {"y", "yes"}:
        raise typer.Abort


def _answer_to(prompt: str) -> str:
    """Return the line that is typed; an empty text if there is none."""
    try:
        return err().input(shown(prompt), markup=False, emoji=False).strip()
    except EOFError:
        err().print()
        return ""


def say(line: str) -> None:
    """Print one line without wrapping or markup."""
    _print(out(), line)


def note(line: str) -> None:
    """Print one line on standard error without wrapping or markup, so that standard output holds results alone."""
    _print(err(), line)


def complain(line: str) -> None:
    """Print what went wrong on standard error, in red."""
    _print(err(), line, style="red")


def _print(console: "Console", line: str, *, style: str | None = None) -> None:
    console.print(shown(line), style=style, soft_wrap=True, highlight=False, markup=False)


def shown(text: str) -> str:
    """Return a text without what could change the terminal, such as escape sequences in the name of a file."""
    return "".join(
        character if character.isprintable() or character == "\n" else "\N{REPLACEMENT CHARACTER}" for character in text
    )
