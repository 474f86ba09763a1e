"""The answer of a media route: a JSON document that nobody may store, since it may hold what is signed."""

from collections.abc import Callable, Sequence

from fastapi import Response
from starlette.types import Receive, Scope, Send

from broker.api.problems import NO_STORE

AT_ONCE = "s3_media.at_once"
"""The name of an extension of ASGI by which who takes an answer offers to take all of it at once."""
Headers = Sequence[tuple[bytes, bytes]]
AtOnce = Callable[[Scope, Send, int, Headers, bytes], bool]
"""Take the status, headers and body of an answer, in the place of the messages that `send` would be called with. False:
that cannot be, as where somebody else listens to what is sent; they are to be sent then."""
HEADERS = [
    (b"content-type", b"application/json"),
    *((name.lower().encode(), value.encode()) for name, value in NO_STORE.items()),
]


class Document(Response):
    """Answer with a JSON document; its headers are always the same, so that none has to be looked for."""

    media_type = "application/json"

    def __init__(self, document: bytes, status_code: int = 200) -> None:
        self.status_code = status_code
        self.background = None
        self.body = document
        self.raw_headers = [(b"content-length", b"%d" % len(document)), *HEADERS]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, at once where that is offered."""
        at_once: AtOnce | None = scope.get("extensions", {}).get(AT_ONCE) if self.background is None else None
        if at_once is None or not at_once(scope, send, self.status_code, self.raw_headers, bytes(self.body)):
            await super().__call__(scope, receive, send)
