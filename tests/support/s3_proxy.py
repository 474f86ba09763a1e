"""A proxy before S3 that delays, loses, repeats and reorders requests and answers.

Each connection carries one request. A function of the test decides on the fate of each, by a seed or by hand. Requests
that outlive their client are carried out late, as S3 may do with a request whose client timed out.
"""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

_HEADER_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CONNECTION = re.compile(rb"\r\nconnection:[^\r]*", re.IGNORECASE)
_EXPECT = re.compile(rb"\r\nexpect:[^\r]*", re.IGNORECASE)
_FINAL_KEY = re.compile(rb"media/[0-9a-f]{2}/\d{4}/")


@dataclass(frozen=True, slots=True)
class Request:
    """One request to S3."""

    method: str
    target: str
    raw: bytes

    @property
    def is_copy(self) -> bool:
        """Return whether this is a CopyObject."""
        return self.method == "PUT" and b"\r\nx-amz-copy-source:" in self.raw.lower()

    @property
    def purges_a_final_key(self) -> bool:
        """Return whether this is a DeleteObject or DeleteObjects of a final key."""
        deletes = self.method == "DELETE" or (self.method == "POST" and "?delete" in self.target)
        return deletes and _FINAL_KEY.search(self.raw) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """The fate of a request. Durations are seconds."""

    hold: float = 0
    """S3 receives the request after this time."""
    until: asyncio.Event | None = None
    """S3 receives the request once this is set."""
    hangs_up_first: bool = False
    """The client's connection breaks before S3 receives the request."""
    reaches_s3: bool = True
    repeat_after: float | None = None
    """S3 receives the request once more after this time."""
    answer_after: float = 0
    loses_answer: bool = False


PASS = Fate()
Decide = Callable[[Request], Awaitable[Fate]]


def chaos(seed: int, *, share: float, longest: float) -> Decide:
    """Return a function that spoils a share of the requests; nothing is held or repeated for longer than `longest`."""
    chance = random.Random(seed)  # noqa: S311

    async def decide(request: Request) -> Fate:
        if chance.random() >= share:
            return Fate(hold=chance.uniform(0, 0.01))
        seconds = chance.uniform(0, longest)
        return chance.choice(
            (
                Fate(hold=seconds / 4),
                Fate(answer_after=seconds / 4),
                Fate(reaches_s3=False),
                Fate(loses_answer=True),
                Fate(hold=seconds, hangs_up_first=True),
                Fate(repeat_after=seconds),
                Fate(hold=seconds / 8, repeat_after=seconds, loses_answer=True),
            )
        )

    return decide


class S3Proxy:
    """Forward requests to S3 as `decide` says; `decide` may be replaced at any time."""

    def __init__(self, s3_url: str, decide: Decide) -> None:
        s3 = urlsplit(s3_url)
        self._s3 = (s3.hostname or "", s3.port or 80)
        self.decide = decide
        self.url = ""
        self.spoilt = 0
        self._late: set[asyncio.Task[bytes]] = set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["S3Proxy"]:
        """Serve on 127.0.0.1; at the end wait for the requests that are still held."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**20)
        self.url = "http://127.0.0.1:{1}".format(*server.sockets[0].getsockname())
        try:
            yield self
        finally:
            server.close()
            await self.drained()

    async def drained(self) -> None:
        """Return once S3 has carried out every request."""
        while self._late:
            await asyncio.wait(set(self._late))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._carry(await _read(reader, writer), writer)
        finally:
            writer.close()

    async def _carry(self, request: Request, writer: asyncio.StreamWriter) -> None:
        fate = await self.decide(request)
        self.spoilt += fate.loses_answer or fate.hangs_up_first or not fate.reaches_s3 or fate.repeat_after is not None
        if not fate.reaches_s3:
            return
        forwarded = self._later(request, fate.hold, fate.until)
        if fate.repeat_after is not None:
            self._later(request, fate.hold + fate.repeat_after, fate.until)
        if fate.hangs_up_first:
            return
        answer = await asyncio.shield(forwarded)
        if not fate.loses_answer:
            await asyncio.sleep(fate.answer_after)
            writer.write(answer)
            await writer.drain()

    def _later(self, request: Request, seconds: float, until: asyncio.Event | None) -> "asyncio.Task[bytes]":
        async def forward() -> bytes:
            await asyncio.sleep(seconds)
            if until is not None:
                await until.wait()
            reader, writer = await asyncio.open_connection(*self._s3)
            writer.write(request.raw)
            answer = await reader.read()
            writer.close()
            return answer

        task = asyncio.create_task(forward())
        self._late.add(task)
        task.add_done_callback(self._late.discard)
        return task


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request:
    """Read one request; it asks S3 to close the connection after its answer, so that the answer's end is known."""
    head = await reader.readuntil(_HEADER_END)
    if _EXPECT.search(head):
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    length = _LENGTH.search(head)
    body = await reader.readexactly(int(length[1])) if length else b""
    kept = _EXPECT.sub(b"", _CONNECTION.sub(b"", head)).removesuffix(_HEADER_END)
    method, target, _ = head.split(b" ", 2)
    return Request(method.decode(), target.decode(), kept + b"\r\nConnection: close" + _HEADER_END + body)
