"""The network between a browser and S3: as slow as a test says, counted, and broken at will."""

import asyncio
import math
import socket
import time
from collections.abc import Iterable
from contextlib import suppress

from tests.support.loopback import LoopbackServer, address_of

CHUNK_BYTES = 32 * 1024
LATE_SECONDS = 0.5
"""By how much a connection may be behind its rate and still catch up, as on a machine that wakes it late."""
FORM = (b"OPTIONS /", b"POST /")
"""The requests that a browser begins a connection with; the broker has other ones, except for a POST with a query."""


class SlowLink(LoopbackServer):
    """A proxy before S3, in a thread of its own. It slows and counts only what browsers send.

    `bytes_per_second` is shared by all connections, `per_connection` is for each. All of them break whenever the bytes
    that browsers sent reach one of the numbers in `breaks_at`.
    """

    def __init__(
        self,
        *,
        bytes_per_second: float = math.inf,
        per_connection: float = math.inf,
        breaks_at: Iterable[int] = (),
    ) -> None:
        super().__init__()
        self.bytes_per_second = bytes_per_second
        self.per_connection = per_connection
        self.breaks_at = sorted(breaks_at)
        self.sent_bytes = 0
        """The bytes of forms that arrived here, headers and fields included."""
        self.most_at_once = 0
        """The highest number of forms that were on their way at the same time."""
        self._free_at = 0.0
        self._sending: set[asyncio.StreamWriter] = set()
        self._connections: set[asyncio.StreamWriter] = set()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2 * CHUNK_BYTES)

    def to(self, s3_url: str) -> str:
        """Lead to this S3, and return the address to use instead."""
        self._s3 = address_of(s3_url)
        return self.url

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        s3_reader, s3_writer = await asyncio.open_connection(*self._s3)
        back = asyncio.create_task(self._answer(s3_reader, writer))
        try:
            with suppress(ConnectionError):
                await self._forward(reader, s3_writer, writer)
        finally:
            back.cancel()
            self._connections.discard(writer)
            self._sending.discard(writer)
            s3_writer.close()
            writer.close()

    async def _forward(
        self, reader: asyncio.StreamReader, s3_writer: asyncio.StreamWriter, writer: asyncio.StreamWriter
    ) -> None:
        chunk, free_at = await reader.read(CHUNK_BYTES), 0.0
        is_browser = chunk.startswith(FORM) and b"?" not in chunk.partition(b" HTTP/")[0]
        if is_browser:
            self._connections.add(writer)
        while chunk:
            if is_browser and not chunk.startswith(b"OPTIONS "):
                self._sending.add(writer)
                self.most_at_once = max(self.most_at_once, len(self._sending))
                free_at = max(time.monotonic() - LATE_SECONDS, free_at) + len(chunk) / self.per_connection
                await self._slow_down(len(chunk), free_at)
                self.sent_bytes += len(chunk)
                if self.breaks_at and self.sent_bytes >= self.breaks_at[0]:
                    del self.breaks_at[0]
                    self._break()
            s3_writer.write(chunk)
            await s3_writer.drain()
            chunk = await reader.read(CHUNK_BYTES)

    async def _answer(self, s3_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while chunk := await s3_reader.read(CHUNK_BYTES):
                self._sending.discard(writer)
                writer.write(chunk)
                await writer.drain()

    async def _slow_down(self, size: int, free_at: float) -> None:
        """Wait until the link is free again, and the connection at `free_at`."""
        now = time.monotonic()
        self._free_at = max(now, self._free_at) + size / self.bytes_per_second
        await asyncio.sleep(max(self._free_at, free_at) - now)

    def _break(self) -> None:
        for writer in self._connections:
            writer.transport.abort()
        self._connections.clear()
        self._sending.clear()
