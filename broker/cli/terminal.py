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

    return Console()


@cache
def err() -> "Console":
    """Return the console of standard error."""
    from rich.console import Console

    return Console(stderr=True)


@contextmanager
def errors_as_exit_status() -> Iterator[None]:
    """Print the errors of the body as lines, and exit with a status."""
    try:
        yield
    except SettingsInvalid as error:
        refuse(*str(error).splitlines())
    except DatabaseUnavailable as error:
        refuse(str(error), error.reason, status=1)
    except BrokerError as error:
        refuse(str(error), status=1)


def refuse(*reasons: str, status: int = REFUSED) -> NoReturn:
    """Print the reasons on standard error, and exit with `status`."""
    for reason in reasons:
        err().print(reason, style="red", soft_wrap=True, highlight=False, markup=False)
    raise typer.Exit(status)


def ask(question: str, *, option: str) -> str:
    """Return the answer to a question on standard error; `option` gives it without a terminal."""
    try:
        answer = err().input(f"{question}: ", markup=False).strip()
    except EOFError:
        err().print()
        answer = ""
    return answer or refuse(f"{option}: should be given")


def say(line: str) -> None:
    """Print one line without wrapping or markup."""
    out().print(line, soft_wrap=True, highlight=False, markup=False)


def note(line: str) -> None:
    """Print one line on standard error without wrapping or markup, so that standard output holds results alone."""
    err().print(line, soft_wrap=True, highlight=False, markup=False)
