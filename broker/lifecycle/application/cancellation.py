"""The cancellation of what a function of the host awaits, as opposed to that of the task that calls the function."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class HandlerCancelled(Exception):
    """The function awaited a task that was cancelled."""


@contextmanager
def only_own_cancellation() -> Iterator[None]:
    """Let CancelledError pass if the current task is being cancelled. Raises HandlerCancelled in its place otherwise.

    A loop that calls the function would end with it silently, because a TaskGroup ignores a cancelled task.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or not task.cancelling():
            raise HandlerCancelled("it awaited a task that was cancelled") from error
        raise
