"""The body of a request, bounded in size and time before anything parses it."""

import asyncio

from starlette.types import Receive, Scope

from broker.errors import BodyCutShort, BodyTooLarge, BodyTooSlow

MAX_BYTES = 64 * 1024
MAX_SECONDS = 15.0


def check_announced(scope: Scope) -> None:
    """Raise BodyTooLarge where Content-Length says more than is accepted; nothing is read then."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value[:20]) > MAX_BYTES:
            raise BodyTooLarge(max_size=MAX_BYTES)


async def read_body(receive: Receive) -> bytes:
    """Return the whole body. Raises BodyTooLarge or BodyTooSlow, also without Content-Length, and BodyCutShort."""
    body: bytes = b""
    try:
        async with asyncio.timeout(MAX_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise BodyCutShort
                part: bytes = message.get("body", b"")
                body += part
                if len(body) > MAX_BYTES:
                    raise BodyTooLarge(max_size=MAX_BYTES)
                if not message.get("more_body", False):
                    return body
    except TimeoutError:
        raise BodyTooSlow(seconds=MAX_SECONDS) from None
