"""The missing parts of an upload, as the broker lists them: in pages, each with the forms of a few parts."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from broker.client.failures import FileChanged
from broker.client.forms import Form
from broker.client.requests import Requests, Token

PAGE = 1000
"""The number of parts that one request looks at; the most that the broker allows."""


class MissingParts:
    """The missing parts of one media, for a file of `size` bytes. One request fetches at most `forms` forms.

    `on_arrived` gets the number of bytes in parts that the broker lists as arrived.
    """

    def __init__(
        self,
        requests: Requests,
        media_id: str,
        *,
        token: Token | None,
        size: int,
        forms: int,
        on_arrived: Callable[[int], object],
    ) -> None:
        self._requests = requests
        self._path = f"/{media_id}/parts"
        self._token = token
        self._size = size
        self._forms = forms
        self._on_arrived = on_arrived
        self._waiting: deque[Form] = deque()
        self._arrived: set[int] = set()
        self._next_from: int | None = 1
        self._turn = asyncio.Lock()

    def take(self, answer: Mapping[str, Any]) -> None:
        """Take the forms of a page of the broker; the next page begins behind the last form. Raises FileChanged."""
        page = answer["parts"]
        part_size, count, arrived = page["part_size"], page["count"], page["arrived"]
        if -(-self._size // part_size) != count:
            raise FileChanged(f"The file has {self._size} bytes; the upload has {count} parts of {part_size} bytes.")
        self._waiting.extend(self._forms_of(answer))
        self._next_from = page["next_from"]
        if page["forms"]:
            last = page["forms"][-1]["number"]
            behind = range(last + 1, page["next_from"] or count + 1)
            if not set(behind) <= set(arrived):  # the page has no forms for the others
                self._next_from = last + 1
        found = set(arrived) - self._arrived
        self._arrived |= found
        self._on_arrived(sum(min(part_size, self._size - (number - 1) * part_size) for number in found))

    async def next(self) -> Form | None:
        """Return the form of the next part, or None behind the last one. Raises BrokerProblem and FileChanged."""
        async with self._turn:
            while not self._waiting and self._next_from is not None:
                self.take(await self._page(self._next_from, PAGE, self._forms))
            return self._waiting.popleft() if self._waiting else None

    async def renewed(self, form: Form) -> Form | None:
        """Return a fresh form for the same part, or None if the part has arrived although its answer was lost."""
        answer = await self._page(form.number, 1, 1)
        forms = self._forms_of(answer)
        if not forms:
            self._on_arrived(form.size)
        return forms[0] if forms else None

    async def _page(self, first: int, limit: int, forms: int) -> dict[str, Any]:
        query = {"from": first, "limit": limit, "forms": forms}
        return await self._requests.send("GET", self._path, token=self._token, params=query)

    def _forms_of(self, answer: Mapping[str, Any]) -> list[Form]:
        page, forms = answer["parts"], []
        for part in page["forms"]:
            number, size = part["number"], part["size"]
            start = (number - 1) * page["part_size"]
            if min(page["part_size"], self._size - start) != size:
                raise FileChanged(f"The file has {self._size} bytes; part {number} of the upload has {size} bytes.")
            fields = {**page["fields"], **part["fields"]}
            forms.append(Form.of(page["url"], fields, number, start, size, expires_in=answer["expires_in"]))
        return forms
