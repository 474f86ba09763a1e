"""A stand-in for S3 that holds every object, and takes a set time for each call: `python -m tests.bench.stand_in_s3`.

With `--half`, it lacks the uploads whose ids are odd. It checks nothing and parses little, so that a completion's cost
is the broker's own.
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
_ABSENT = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nx-amz-request-id: 1\r\n\r\n"
_ODD = frozenset(b"13579bdf")


def _answer(body: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\nx-amz-request-id: 1\r\n\r\n{body}".encode()


_COPY = _answer(f"<CopyObjectResult><ETag>&quot;{ETAG}&quot;</ETag></CopyObjectResult>")
_DELETE = _answer("<DeleteResult/>")


class StandIn(asyncio.Protocol):
    """One connection; requests come one after another, each with its body by its length."""

    def __init__(self, milliseconds: dict[bytes, float], *, half: bool = False) -> None:
        self._milliseconds = milliseconds
        self._half = half
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
            method, target, _ = head.split(b" ", 2)
            self._buffer = self._buffer[end + 4 + length :]
            answer = {b"head": _HEAD, b"put": _COPY}.get(method, _DELETE)
            if self._half and method == b"head" and b"/staging/" in target and target[-1] in _ODD:
                answer = _ABSENT
            delay = self._milliseconds.get(method, 0) / 1000
            if delay:
                asyncio.get_running_loop().call_later(delay, self._write, answer)
            else:
                self._write(answer)

    def _write(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)


async def serve(port: int, milliseconds: dict[bytes, float], *, half: bool) -> None:
    """Serve on 127.0.0.1 until the process ends."""
    server = await asyncio.get_running_loop().create_server(lambda: StandIn(milliseconds, half=half), "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    for method in ("head", "put", "post"):
        parser.add_argument(f"--{method}", type=float, default=0, help="milliseconds")
    parser.add_argument("--half", action="store_true", help="lack every other upload")
    options = parser.parse_args()
    delays = {b"head": options.head, b"put": options.put, b"post": options.post}
    uvloop.run(serve(options.port, delays, half=options.half))
