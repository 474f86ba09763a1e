"""A JWKS server on the loopback interface that counts requests and can fail."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.security.keys import PUBLISHED


class KeyServer:
    """Publish `keys`; `status` and `body` replace the answer, `location` redirects, `delay` holds it back."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = list(PUBLISHED)
        self.fetches = 0
        self.status = 200
        self.body: bytes | None = None
        self.headers: dict[str, str] = {}
        self.asked: dict[str, str] = {}
        """The headers of the latest request, by lower-case name."""
        self.delay = threading.Event()
        self.delay.set()
        self.url = ""

    def answer(self) -> tuple[int, bytes]:
        """Return the next answer."""
        published = json.dumps({"keys": self.keys}).encode()
        self.fetches += 1
        self.delay.wait(10)
        return self.status, self.body if self.body is not None else published


@contextmanager
def running_key_server() -> Iterator[KeyServer]:
    """Run one on a free port."""
    keys = KeyServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            keys.asked = {name.lower(): value for name, value in self.headers.items()}
            status, body = keys.answer()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **keys.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    keys.url = f"http://127.0.0.1:{server.server_port}/jwks.json"
    try:
        yield keys
    finally:
        keys.delay.set()
        server.shutdown()
        server.server_close()
        thread.join()
