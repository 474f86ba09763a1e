"""A stand-in for S3 that holds every object, and takes a set time for each call: `python -m tests.bench.stand_in_s3`.

It checks nothing and parses little, so that a completion's cost is the broker's own.
"""

import argparse
import asyncio

import uvloop

ETAG = "9b2cf535f27731c974343645a3985328"
SIZE = 4_190_112
_HEAD = (
    f'HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\ncontent-type: video/mp4\r\netag: "{ETAG}"\r\n'
    "x-amz-request-id: 1\r\n\r\n"
).encode()


def _answer(body: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\nx-amz-request-id: 1\r\n\r\n{body}".encode()


_COPY = _answer(f"<CopyObjectResult><ETag>&quot;{ETAG}&quot;</ETag></CopyObjectResult>")
_DELETE = _answer("<DeleteResult/>")


class StandIn(asyncio.Protocol):
    """One connection; requests come one after another, each with its body by its length."""

    def __init__(self, milliseconds: dict[bytes, float]) -> None:
        self._milliseconds = milliseconds
        self._buffer = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Keep the transport."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each request that is whole."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._buffer) < end + 4 + length:
                return
            method = self._buffer[: self._buffer.index(b" ")]
            self._buffer = self._buffer[end + 4 + length :]
            answer = {b"HEAD": _HEAD, b"PUT": _COPY}.get(method, _DELETE)
            delay = self._milliseconds.get(method, 0) / 1000
            if delay:
                asyncio.get_running_loop().call_later(delay, self._write, answer)
            else:
                self._write(answer)

    def _write(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)


async def serve(port: int, milliseconds: dict[bytes, float]) -> None:
    """Serve on 127.0.0.1 until the process ends."""
    server = await asyncio.get_running_loop().create_server(lambda: StandIn(milliseconds), "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    for method in ("head", "put", "post"):
        parser.add_argument(f"--{method}", type=float, default=0, help="milliseconds")
    options = parser.parse_args()
    uvloop.run(serve(options.port, {b"HEAD": options.head, b"PUT": options.put, b"POST": options.post}))
