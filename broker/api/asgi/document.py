"""The response of a media route: a JSON document that no cache may store, because it may hold signed material."""

from collections.abc import Callable, Sequence

from fastapi import Response
from starlette.types import Receive, Scope, Send

from broker.api.problems import NO_STORE

AT_ONCE = "s3_media.at_once"
"""ASGI extension: the server offers to write a complete response in one call. Saves 8 % of the processor time of an
issue and 7 % of a playback's (tests.bench.ablation)."""
Headers = Sequence[tuple[bytes, bytes]]
AtOnce = Callable[[Scope, Send, int, Headers, bytes], bool]
"""Write a complete response instead of sending ASGI messages. Return False if that is not possible, for example because
tracing wraps `send`; the caller then sends the messages."""
HEADERS = [
    (b"content-type", b"application/json"),
    *((name.lower().encode(), value.encode()) for name, value in NO_STORE.items()),
]


class Document(Response):
    """A JSON response whose headers are fixed, apart from its length.

    Setting them without Starlette's constructor saves 4 % of an issue's processor time (tests.bench.ablation).
    """

    media_type = "application/json"

    def __init__(self, document: bytes, status_code: int = 200) -> None:
        self.status_code = status_code
        self.background = None
        self.body = document
        self.raw_headers = [(b"content-length", b"%d" % len(document)), *HEADERS]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response, in one call if the server offers that and no background task follows."""
        at_once: AtOnce | None = scope.get("extensions", {}).get(AT_ONCE) if self.background is None else None
        if at_once is None or not at_once(scope, send, self.status_code, self.raw_headers, bytes(self.body)):
            await super().__call__(scope, receive, send)
