"""The body of a request, bounded in size and time before anything parses it."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any

from starlette.types import Message, Receive, Scope

from broker.api.asgi.fields import field_of
from broker.errors import BodyCutShort, BodyTooLarge, BodyTooSlow

ARRIVED_BODY = "s3_media.arrived_body"
"""The name of an extension of ASGI by which a server offers a body that is there already, as most are."""
ArrivedBody = Callable[[Receive], bytes | None]
"""Take the body, in the place of the messages that this `receive` would return. None: it is not all there, or somebody
else listens to what is received."""
MAX_BYTES = 64 * 1024
MAX_SECONDS = 15.0


def check_announced(scope: Scope) -> None:
    """Raise BodyTooLarge where Content-Length says more than is accepted; nothing is read then."""
    length = field_of(scope, b"content-length")
    if length is not None and length.isdigit() and int(length[:20]) > MAX_BYTES:
        raise BodyTooLarge(max_size=MAX_BYTES)


async def read_body(scope: Scope, receive: Receive) -> bytes:
    """Return the whole body. Raises BodyTooLarge or BodyTooSlow, also without Content-Length, and BodyCutShort."""
    arrived: ArrivedBody | None = scope.get("extensions", {}).get(ARRIVED_BODY)
    body = arrived(receive) if arrived is not None else None
    if body is None:
        return await _received_body(receive)
    if len(body) > MAX_BYTES:
        raise BodyTooLarge(max_size=MAX_BYTES)
    return body


async def _received_body(receive: Receive) -> bytes:
    body: bytes = b""
    deadline = _Deadline(MAX_SECONDS)
    while True:
        message = await deadline.bound(receive())
        if message["type"] == "http.disconnect":
            raise BodyCutShort
        body += message.get("body", b"")
        if len(body) > MAX_BYTES:
            raise BodyTooLarge(max_size=MAX_BYTES)
        if not message.get("more_body", False):
            return body


class _Deadline:
    """Bound how long messages are waited for, all together.

    Most bodies arrive with their heads, and a timer costs more than all else that is done with them. So there is one
    only where something has to be waited for.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends_at: float | None = None

    async def bound(self, message: Awaitable[Message]) -> Message:
        """Return the message. Raises BodyTooSlow."""
        steps = message.__await__()
        try:
            awaited = next(steps)
        except StopIteration as done:
            found: Message = done.value
            return found
        if self._ends_at is None:
            self._ends_at = asyncio.get_running_loop().time() + self._seconds
        try:
            async with asyncio.timeout_at(self._ends_at):
                return await _Begun(steps, awaited)
        except TimeoutError:
            raise BodyTooSlow(seconds=self._seconds) from None


class _Begun:
    """Go on with an awaitable that was begun, and waits for `awaited` now."""

    def __init__(self, steps: Generator[Any, Any, Message], awaited: Any) -> None:
        self._steps = steps
        self._awaited = awaited

    def __await__(self) -> Generator[Any, Any, Message]:
        awaited = self._awaited
        try:
            while True:
                try:
                    sent = yield awaited
                except BaseException as error:
                    awaited = self._steps.throw(error)
                else:
                    awaited = self._steps.send(sent)
        except StopIteration as done:
            found: Message = done.value
            return found
