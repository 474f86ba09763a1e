"""The transfer of one file: by one form, or in parts, each sent again alone if it fails."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

from broker.client.answers import Issued
from broker.client.failures import FileRefused, Unreachable
from broker.client.forms import Forms, Outcome, Progress
from broker.client.requests import Requests, Token

MAX_TRIES = 8
"""How often a form, or one part, is sent in all."""
FIRST_REST_SECONDS = 0.5
LONGEST_REST_SECONDS = 30.0
FORMS_PER_CONNECTION = 2
"""The number of forms that one request fetches for each connection: on a slow link, more would expire unused."""
PAGE = 1000
"""The number of parts that one request looks at; the most that the broker allows."""
FAILURES = {
    Outcome.INTERRUPTED: Unreachable("S3 is unavailable, or closed the connection each time; retry later."),
    Outcome.REFRESH: FileRefused("S3 refused the upload, also with a fresh form: AccessDenied."),
}


class Sending:
    """One file on its way: `descriptor` is of the open file, `token` is that of the upload."""

    def __init__(
        self,
        requests: Requests,
        forms: Forms,
        *,
        token: Token | None,
        descriptor: int,
        size: int,
        connections: int,
        on_progress: Progress,
    ) -> None:
        self._requests = requests
        self._forms = forms
        self._token = token
        self._descriptor = descriptor
        self._size = size
        self._places = asyncio.Semaphore(connections)
        self._wave = FORMS_PER_CONNECTION * connections
        self._on_progress = on_progress

    async def whole(self, issued: Issued, issue: Callable[[], Awaitable[Issued]]) -> None:
        """Send the file by one form; `issue` returns the upload again, with a fresh form for a further try."""
        for tries in count(1):
            form = issued.document["upload"]
            if form is None:  # the file of this Idempotency-Key has arrived before
                return
            outcome = await self._forms.post(
                form["url"], form["fields"], self._descriptor, 0, self._size, self._on_progress
            )
            if outcome is Outcome.STORED:
                return
            await _rest(tries, outcome)
            issued = await issue()

    async def missing_parts(self, media_id: str) -> None:
        """Send the parts that have not arrived."""
        tries: Counter[int] = Counter()
        first: int | None = 1
        is_new = True
        while first is not None:
            query = {"from": first, "limit": PAGE, "forms": self._wave}
            answer = await self._requests.send("GET", f"/{media_id}/parts", token=self._token, params=query)
            parts = answer["parts"]
            if is_new:
                self._on_progress(sum(self._size_of(number, parts) for number in parts["arrived"]))
            try:
                async with asyncio.TaskGroup() as group:
                    sent = {form["number"]: group.create_task(self._part(parts, form)) for form in parts["forms"]}
            except ExceptionGroup as failures:
                raise failures.exceptions[0] from None
            failed = {number: task.result() for number, task in sent.items() if task.result() is not Outcome.STORED}
            tries.update(failed.keys())
            if failed:
                worst = max(failed, key=lambda number: tries[number])
                await _rest(tries[worst], failed[worst])
            is_new = not parts["forms"]
            if is_new:
                first = parts["next_from"]

    async def _part(self, parts: dict[str, Any], form: dict[str, Any]) -> Outcome:
        async with self._places:
            fields = {**parts["fields"], **form["fields"]}
            start = (form["number"] - 1) * parts["part_size"]
            return await self._forms.post(
                parts["url"], fields, self._descriptor, start, form["size"], self._on_progress
            )

    def _size_of(self, number: int, parts: dict[str, Any]) -> int:
        part_size: int = parts["part_size"]
        return min(part_size, self._size - (number - 1) * part_size)


async def _rest(tries: int, outcome: Outcome) -> None:
    """Pause after a failed try, longer after each one. Raises the failure after too many."""
    if tries >= MAX_TRIES:
        raise FAILURES[outcome]
    await asyncio.sleep(min(FIRST_REST_SECONDS * 2**tries, LONGEST_REST_SECONDS))
