"""An S3 that follows a script: each request gets the next answer, or the next fault."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from broker.aws.bucket import Bucket, BucketConfig
from broker.domain.s3.sigv4 import Credentials

KEYS = Credentials("AKIAIOSFODNN7EXAMPLE", "a-secret-key", None)
MD5 = "d41d8cd98f00b204e9800998ecf8427e"


@dataclass(frozen=True, slots=True)
class Reply:
    """One step of the script. `cut` sends that many bytes fewer than announced, and then closes the connection."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int = 0
    reset: bool = False
    """Close the connection without an answer."""
    silence: bool = False
    """Answer nothing until the client gives up."""
    close_later: bool = False
    """Close the connection after the answer, without a word of it in the answer."""


@dataclass(slots=True)
class ScriptedS3:
    """A server on 127.0.0.1 and the requests that it got, as `METHOD path`."""

    url: str
    script: list[Reply]
    requests: list[str] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    """The number of connections that are open now."""


@asynccontextmanager
async def scripted(*script: Reply, tls: ssl.SSLContext | None = None) -> AsyncIterator[ScriptedS3]:
    """Serve the replies in order; the last one repeats."""
    server = ScriptedS3("", list(script))
    handlers: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        server.connections += 1
        server.open += 1
        try:
            while await _answer(server, reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            server.open -= 1
            writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls) as listener:
        server.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        try:
            yield server
        finally:
            for task in handlers:
                task.cancel()


async def _answer(server: ScriptedS3, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Answer one request; return whether the connection takes another one."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    length = next((int(line[15:]) for line in head.splitlines() if line.lower().startswith("content-length:")), 0)
    server.bodies.append(await reader.readexactly(length))
    method, path, _ = head.split(" ", 2)
    server.requests.append(f"{method} {path}")
    server.heads.append(head)
    reply = server.script.pop(0) if len(server.script) > 1 else server.script[0]
    if reply.silence:
        await reader.read()
        return False
    if reply.reset:
        return False
    lines = [f"HTTP/1.1 {reply.status} Any", *(f"{name}: {value}" for name, value in reply.headers.items())]
    if "content-length" not in reply.headers:
        lines.append(f"content-length: {len(reply.body)}")
    body = b"" if method == "HEAD" else reply.body[: len(reply.body) - reply.cut]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    await writer.drain()
    return not reply.cut and not reply.close_later


def bucket_at(url: str, **options: Any) -> Bucket:
    """Return a bucket of this server; `options` replace parts of its configuration."""
    config = BucketConfig(
        name="videos",
        region="eu-central-1",
        endpoint_url=url,
        path_style=True,
        credentials=KEYS,
        timeout_seconds=5,
    )
    return Bucket(replace(config, **options))
