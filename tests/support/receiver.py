"""A receiver of webhooks on this machine that behaves as a test wants, well or badly."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

Behaviour = Callable[[asyncio.StreamWriter], Any]


@dataclass
class Receiver:
    """The requests that arrived, and their answers, which are used up one by one; the last one stays."""

    port: int = 0
    answers: list[Behaviour] = field(default_factory=list)
    requests: list[tuple[dict[str, str], str]] = field(default_factory=list)
    sent_bytes: int = 0
    connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.requests]

    @property
    def documents(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.requests]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")[1:-2]
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
                body = (await reader.readexactly(int(headers.get("content-length", "0")))).decode()
                self.requests.append((headers, body))
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                await answer(writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def behaviour(self, answer: str | int | tuple[int, object]) -> Behaviour:
        """Return what the receiver does for a status, a status and a JSON document, or the name of a behaviour."""
        if isinstance(answer, str):
            named: Behaviour = getattr(self, answer)
            return named
        return self.status(answer) if isinstance(answer, int) else self.json(*answer)

    def status(self, code: int, *headers: str) -> Behaviour:
        """Answer with a status."""

        async def answer(writer: asyncio.StreamWriter) -> None:
            lines = [f"HTTP/1.1 {code} Whatever", "Content-Length: 2", *headers]
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\nok")
            await writer.drain()

        return answer

    def json(self, code: int, document: object) -> Behaviour:
        """Answer with a status and a JSON document."""
        return self.raw(code, json.dumps(document).encode())

    def raw(self, code: int, body: bytes, *headers: str) -> Behaviour:
        """Answer with a status and a body."""

        async def answer(writer: asyncio.StreamWriter) -> None:
            lines = [f"HTTP/1.1 {code} Whatever", f"Content-Length: {len(body)}", *headers]
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
            await writer.drain()

        return answer

    async def nothing(self, writer: asyncio.StreamWriter) -> None:
        """Answer 204, without a body."""
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()

    async def to_the_metadata_service(self, writer: asyncio.StreamWriter) -> None:
        """Redirect to an address inside a cloud."""
        await self.status(302, "Location: http://169.254.169.254/latest/meta-data/")(writer)

    async def to_itself(self, writer: asyncio.StreamWriter) -> None:
        """Redirect to an address that would answer."""
        await self.status(307, f"Location: {self.url}")(writer)

    async def break_off(self, writer: asyncio.StreamWriter) -> None:
        """Promise a longer body than is sent."""
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}")
        await writer.drain()
        raise OSError

    async def hang(self, writer: asyncio.StreamWriter) -> None:
        """Take the request and say nothing."""
        await asyncio.sleep(600)

    async def hang_up(self, writer: asyncio.StreamWriter) -> None:
        """Break the connection."""
        raise OSError

    async def babble(self, writer: asyncio.StreamWriter) -> None:
        """Answer something that is not HTTP."""
        writer.write(b"\x00\x01 what?\r\n\r\n")
        await writer.drain()

    async def drip(self, writer: asyncio.StreamWriter) -> None:
        """Send a body that never ends, a byte at a time."""
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    async def flood(self, writer: asyncio.StreamWriter) -> None:
        """Send ten gigabytes back, as fast as they are taken."""
        size = 10 * 1024**3
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        piece = bytes(65536)
        while self.sent_bytes < size:
            writer.write(piece)
            await writer.drain()
            self.sent_bytes += len(piece)


@asynccontextmanager
async def receiving(*answers: str | int | tuple[int, object]) -> AsyncIterator[Receiver]:
    """Run a receiver that answers with these statuses, statuses and JSON documents, or behaviours by name."""
    receiver = Receiver()
    receiver.answers = [receiver.behaviour(answer) for answer in answers]
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
