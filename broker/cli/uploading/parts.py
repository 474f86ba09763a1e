"""The upload of a file in parts: several at a time, each sent again alone if it fails, until none is missing."""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

from broker.cli.uploading.broker_client import BrokerClient
from broker.cli.uploading.failure import BrokerSilent, UploadFailed
from broker.cli.uploading.s3_form import Outcome, post_form, s3_client
from broker.cli.uploading.slices import Slice

PART_PAGE = 1000
"""How many parts one request to the broker looks at; the most that it allows."""
WAVE = 50
"""How many forms one request fetches: with several connections they are used long before they expire."""
MAX_FAILURES = 9
"""How often one part, or one request to the broker, may fail in a row; with the rests, for 2.5 minutes."""
MAX_EXPIRED = 2
"""How often in a row S3 may find a form expired; the clocks of S3 and the broker differ then."""
FIRST_REST_SECONDS = 0.5
LONGEST_REST_SECONDS = 30.0
SPARE_SECONDS = 30.0
"""A form that expires sooner is replaced before it is used."""


class Stopped(Exception):
    """Another part failed for good, or the user stopped the upload."""


@dataclass(slots=True)
class Form:
    """The form of one part, and when it expires by the monotonic clock."""

    number: int
    size: int
    url: str
    fields: dict[str, str]
    expires_at: float


class PartsUpload:
    """Send the missing parts of one file of `size` bytes.

    `page` is the page of parts in the broker's answer, whose forms last `expires_in` seconds. `on_progress` gets the
    number of bytes that were sent, found stored, or (negative) sent in vain.
    """

    def __init__(
        self,
        broker: BrokerClient,
        *,
        media_id: str,
        descriptor: int,
        size: int,
        content_type: str,
        page: Mapping[str, Any],
        expires_in: float,
        connections: int,
        on_progress: Callable[[int], object],
        rest: Callable[[float], object],
    ) -> None:
        self._broker = broker
        self._media_id = media_id
        self._descriptor = descriptor
        self._content_type = content_type
        self._connections = connections
        self._on_progress = on_progress
        self._rest = rest
        self._part_size, self._count = int(page["part_size"]), int(page["count"])
        self._size = size
        self._lock = threading.Lock()
        self._forms: deque[Form] = deque()
        self._stored: set[int] = set()
        self._next_from: int | None = 1
        self._failure: UploadFailed | None = None
        self._stop = threading.Event()
        self._s3 = s3_client(connections)
        self._take(page, expires_in)

    def run(self) -> None:
        """Send all missing parts. Raises UploadFailed."""
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(self._connections)]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():  # a wait without end could not be interrupted
                    thread.join(0.2)
        finally:
            self._stop.set()
            self._s3.close()
        if self._failure is not None:
            raise self._failure

    @property
    def stored_bytes(self) -> int:
        """Return how many bytes are in parts that S3 has stored."""
        return sum(map(self._size_of, self._stored))

    def _work(self) -> None:
        try:
            while (form := self._next()) is not None:
                self._send(form)
        except Stopped:
            return
        except Exception as error:
            failure = error if isinstance(error, UploadFailed) else UploadFailed(f"{type(error).__name__}: {error}")
            with self._lock:
                self._failure = self._failure or failure
            self._stop.set()

    def _next(self) -> Form | None:
        """Return the form of the next missing part, or None if no part is left to be taken."""
        with self._lock:
            while not self._forms and self._next_from is not None and not self._stop.is_set():
                page = self._page(self._next_from, PART_PAGE, WAVE)
                self._take(page["parts"], page["expires_in"])
            return self._forms.popleft() if self._forms and not self._stop.is_set() else None

    def _page(self, first: int, limit: int, forms: int) -> dict[str, Any]:
        query = {"from": first, "limit": limit, "forms": forms}
        failures = 0
        while True:
            try:
                return self._broker.request("GET", f"/{self._media_id}/parts", params=query)
            except BrokerSilent as silent:
                failures += 1
                self._pause(failures, silent)

    def _take(self, page: Mapping[str, Any], expires_in: float) -> None:
        """Take the forms of a page, and note what is stored; the next page begins behind the last form."""
        forms = _forms(page, expires_in)
        self._forms.extend(forms)
        for number in page["arrived"]:
            self._note_stored(number)
        if forms and len(forms) + len(page["arrived"]) < self._count:
            last = forms[-1].number
            self._next_from = last + 1 if last < self._count else None
        else:
            self._next_from = page["next_from"]

    def _note_stored(self, number: int) -> None:
        if number not in self._stored:
            self._stored.add(number)
            self._on_progress(self._size_of(number))

    def _size_of(self, number: int) -> int:
        return min(self._part_size, self._size - (number - 1) * self._part_size)

    def _send(self, form: Form) -> None:
        """Send one part until S3 has stored it."""
        current: Form | None = form
        failures = expired = 0
        while current is not None:
            if current.expires_at > monotonic():
                outcome = self._post(current)
                if outcome is Outcome.STORED:
                    with self._lock:
                        self._stored.add(current.number)
                    return
                failures += 1
                expired = expired + 1 if outcome is Outcome.EXPIRED else 0
                if expired > MAX_EXPIRED:
                    raise UploadFailed("S3 refused the upload: AccessDenied: the policy has expired, also a fresh one.")
                self._pause(failures, UploadFailed("S3 is unavailable, or closed the connection each time."))
            current = self._renewed(form.number)

    def _post(self, form: Form) -> Outcome:
        """Post one part. Unless S3 stores it, its bytes count as sent in vain."""
        sent = 0

        def on_read(size: int) -> None:
            nonlocal sent
            if self._stop.is_set():
                raise Stopped
            sent += size
            self._on_progress(size)

        part = Slice(self._descriptor, (form.number - 1) * self._part_size, form.size, on_read)
        outcome = Outcome.INTERRUPTED
        try:
            outcome = post_form(
                self._s3, form.url, form.fields, part, name=str(form.number), content_type=self._content_type
            )
        finally:
            if outcome is not Outcome.STORED:
                self._on_progress(-sent)
        return outcome

    def _renewed(self, number: int) -> Form | None:
        """Return a fresh form of a part, or None if the part arrived although its answer was lost."""
        page = self._page(number, 1, 1)
        forms = _forms(page["parts"], page["expires_in"])
        if not forms:
            with self._lock:
                self._note_stored(number)
        return forms[0] if forms else None

    def _pause(self, failures: int, failure: UploadFailed) -> None:
        """Rest after a failure, longer after each one in a row. Raises `failure` after too many."""
        if failures > MAX_FAILURES:
            raise failure
        self._rest(min(FIRST_REST_SECONDS * 2**failures, LONGEST_REST_SECONDS))
        if self._stop.is_set():
            raise Stopped


def _forms(page: Mapping[str, Any], expires_in: float) -> list[Form]:
    expires_at = monotonic() + expires_in - min(SPARE_SECONDS, expires_in / 2)
    common = page["fields"]
    return [
        Form(form["number"], form["size"], page["url"], {**common, **form["fields"]}, expires_at)
        for form in page["forms"]
    ]
