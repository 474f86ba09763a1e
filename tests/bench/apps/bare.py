"""A bare ASGI handler: it reads the body and answers bytes that were recorded from the broker.

What uvicorn itself costs, and so the most that any application under it can reach. `BENCH_ISSUE` and `BENCH_PLAYBACK`
name the files that hold the two answers.
"""

import os
from pathlib import Path

from starlette.types import Receive, Scope, Send

CREATED = Path(os.environ["BENCH_ISSUE"]).read_bytes()
FOUND = Path(os.environ["BENCH_PLAYBACK"]).read_bytes()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer any POST with 201 and any GET with 200."""
    while (await receive()).get("more_body"):
        pass
    status, body = (201, CREATED) if scope["method"] == "POST" else (200, FOUND)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
