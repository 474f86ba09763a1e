"""The body of a request, bounded in size and time before anything parses it."""

import asyncio

from starlette.types import Message, Receive, Scope

from broker.errors import BodyTooLarge, BodyTooSlow

MAX_BYTES = 64 * 1024
MAX_SECONDS = 15.0


def check_announced(scope: Scope) -> None:
    """Raise BodyTooLarge where Content-Length says more than is accepted; nothing is read then."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value[:20]) > MAX_BYTES:
            raise BodyTooLarge(max_size=MAX_BYTES)


def bounded(receive: Receive) -> Receive:
    """Return `receive` that raises BodyTooLarge or BodyTooSlow, also for a body without Content-Length."""
    received = 0
    deadline = asyncio.get_running_loop().time() + MAX_SECONDS

    async def receive_bounded() -> Message:
        nonlocal received
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            raise BodyTooSlow(seconds=MAX_SECONDS) from None
        received += len(message.get("body", b""))
        if received > MAX_BYTES:
            raise BodyTooLarge(max_size=MAX_BYTES)
        return message

    return receive_bounded
