"""The answer of a media route: a JSON document that nobody may store, since it may hold what is signed."""

from fastapi import Response

from broker.api.problems import NO_STORE

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
