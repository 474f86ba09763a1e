"""The transfer of one file: by one form, or in parts, each sent again alone if it fails."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from broker.client.answers import Issued
from broker.client.failures import ClientError, FileChanged, FileRefused, Unreachable
from broker.client.forms import Form, Forms, Outcome
from broker.client.parts import MissingParts
from broker.client.requests import Requests, Token
from broker.client.wire import MAX_FAILURES, Rest, seconds_after

FORMS_PER_CONNECTION = 4
"""The number of forms that one request fetches for each connection: on a slow link, more would expire unused."""
MAX_EXPIRED = 2
"""How often in a row S3 may find a form expired; the clocks of S3 and the broker differ then."""
FAILURES: dict[Outcome, tuple[type[ClientError], str]] = {
    Outcome.INTERRUPTED: (Unreachable, "S3 is unavailable, or closed the connection each time; retry later."),
    Outcome.EXPIRED: (FileRefused, "S3 refused the upload: AccessDenied: the policy has expired, also a fresh one."),
}


class LocalFile:
    """An open file, which should not change while it is sent."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._before = os.fstat(descriptor)
        self.size = self._before.st_size

    def check(self) -> None:
        """Raise FileChanged if the file has changed since it was opened."""
        now = os.fstat(self.descriptor)
        if (now.st_size, now.st_mtime_ns) != (self._before.st_size, self._before.st_mtime_ns):
            raise FileChanged


@contextmanager
def opened(path: Path) -> Iterator[LocalFile]:
    """Open a file, and close it on exit. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield LocalFile(descriptor)
    finally:
        os.close(descriptor)


class Sending:
    """One file on its way; `token` is that of the upload. `on_progress` gets the bytes sent and the file's size."""

    def __init__(
        self,
        requests: Requests,
        forms: Forms,
        rest: Rest,
        file: LocalFile,
        *,
        token: Token | None,
        on_progress: Callable[[int, int], object] | None,
    ) -> None:
        self._requests = requests
        self._forms = forms
        self._rest = rest
        self._file = file
        self._token = token
        self._on_progress = on_progress
        self._loaded = 0

    async def whole(self, issued: Issued, issue: Callable[[], Awaitable[Issued]]) -> None:
        """Send the file by one form; `issue` returns the upload again, with a fresh form.

        Raises BrokerProblem, FileRefused and Unreachable.
        """
        self._loaded = 0

        async def renewed() -> Form | None:
            return _whole_form(await issue(), self._file.size)

        await self._deliver(_whole_form(issued, self._file.size), renewed)
        self._progressed(self._file.size - self._loaded)  # the file of a repeated key may have arrived before
        self._file.check()

    async def missing_parts(self, media_id: str, first_page: Mapping[str, Any] | None = None) -> None:
        """Send the parts that have not arrived, several at a time. `first_page` is what the broker answered already.

        Raises BrokerProblem, FileRefused and Unreachable.
        """
        self._loaded = 0
        parts = MissingParts(
            self._requests,
            media_id,
            token=self._token,
            size=self._file.size,
            forms=FORMS_PER_CONNECTION * self._forms.connections,
            on_arrived=self._progressed,
        )
        if first_page is not None:
            parts.take(first_page)

        async def work() -> None:
            while (form := await parts.next()) is not None:
                await self._deliver(form, partial(parts.renewed, form))

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._forms.connections):
                    group.create_task(work())
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        self._file.check()

    async def _deliver(self, form: Form | None, renewed: Callable[[], Awaitable[Form | None]]) -> None:
        """Post a form until S3 has stored its range of the file; `renewed` returns a fresh one, or None if it has."""
        failures = expired = 0
        while form is not None:
            outcome = None
            async with self._forms.places:
                if not form.has_expired:
                    outcome = await self._forms.post(form, self._file.descriptor, self._progressed)
            if outcome is Outcome.STORED:
                return
            if outcome is not None:
                failures += 1
                expired = expired + 1 if outcome is Outcome.EXPIRED else 0
                if failures > MAX_FAILURES or expired > MAX_EXPIRED:
                    error, message = FAILURES[outcome]
                    raise error(message)
                await self._rest(seconds_after(failures))
            form = await renewed()

    def _progressed(self, count: int) -> None:
        self._loaded += count
        if self._on_progress is not None and count:
            self._on_progress(self._loaded, self._file.size)


def _whole_form(issued: Issued, size: int) -> Form | None:
    """Return the form of an issued upload, or None if its file has arrived."""
    form = issued.document["upload"]
    if form is None:
        return None
    return Form.of(form["url"], form["fields"], 1, 0, size, expires_in=issued.document["expires_in"])
