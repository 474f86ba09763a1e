"""A relay before S3 that delays each connection, bounds its rate, breaks it, and counts what clients send."""

import asyncio
from collections import deque
from contextlib import suppress

from tests.support.loopback import LoopbackServer, address_of

PIECE = 64 * 1024


class Relay(LoopbackServer):
    """Pass connections on to S3. `rate` is bytes per second for each connection, `delay` seconds for each direction."""

    def __init__(self, s3_url: str, *, rate: float | None = None, delay: float = 0) -> None:
        super().__init__()
        self._target = address_of(s3_url)
        self.rate = rate
        self.delay = delay
        self.bytes_sent = 0
        """The number of bytes that clients have sent, repeated ones included."""
        self.most_at_once = 0
        """The highest number of connections at the same time."""
        self.limit: int | None = None
        """The number of bytes from clients after which nothing passes; None passes all."""
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def connections(self) -> int:
        """Return how many connections are open."""
        return len(self._open)

    def reset(self) -> None:
        """Pass bytes on at once, and count from zero."""
        self.rate, self.delay, self.limit = None, 0, None
        self.bytes_sent = self.most_at_once = 0

    def cut(self) -> None:
        """Break all connections, as a network that goes away does."""
        for writer in list(self._open):
            self._loop.call_soon_threadsafe(writer.transport.abort)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        self.most_at_once = max(self.most_at_once, len(self._open))
        try:
            with suppress(OSError):
                from_s3, to_s3 = await asyncio.open_connection(*self._target)
                try:
                    async with asyncio.TaskGroup() as both:
                        both.create_task(self._pass(reader, to_s3, is_upwards=True))
                        both.create_task(self._pass(from_s3, writer, is_upwards=False))
                finally:
                    to_s3.close()
        except* OSError:
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_upwards: bool) -> None:
        loop = asyncio.get_running_loop()
        on_the_way: deque[asyncio.Task[None]] = deque()
        free_at = loop.time()

        async def arrive(piece: bytes, at: float, before: asyncio.Task[None] | None) -> None:
            await asyncio.sleep(at - loop.time())
            if before is not None:
                await before
            writer.write(piece)
            await writer.drain()

        while piece := await reader.read(PIECE):
            if is_upwards:
                self.bytes_sent += len(piece)
                while self.limit is not None and self.bytes_sent > self.limit:
                    await asyncio.sleep(0.01)
            if self.rate is not None:
                free_at = max(free_at, loop.time()) + len(piece) / self.rate
                await asyncio.sleep(free_at - loop.time())
            before = on_the_way[-1] if on_the_way else None
            on_the_way.append(loop.create_task(arrive(piece, loop.time() + self.delay, before)))
            while len(on_the_way) > 16 or (on_the_way and on_the_way[0].done()):
                await on_the_way.popleft()
        for task in on_the_way:
            await task
        with suppress(OSError):
            writer.write_eof()
