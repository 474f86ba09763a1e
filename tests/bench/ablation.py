"""Measure what each shortcut of the broker saves: `python -m tests.bench.ablation [NAME …]`.

    python -m tests.bench.ablation [NAME …] [--rounds 12] [--requests 640] [--memory]
                                   [--database sqlite|postgresql] [--python FILE]

One process holds the broker twice: as it is, and with one shortcut replaced by its plain form (`tests.bench.plain`).
Requests reach both through 64 connections that only send over sockets, in turns (A, B, B, A), the store runs its
batches on the loop, and the processor time is compared within each round. So neither other work on the machine, nor the
size of batches, nor the place of objects in memory (which makes one process some percent slower than another of the
same code) falls on one side alone. A positive figure is what the shortcut saves, in percent of the plain form's time:
the median of the rounds, and the quartiles.

With --memory, the last column compares what a process holds after 10,000 uploads with one of the plain form.
"""

import argparse
import asyncio
import gc
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from itertools import cycle
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
import uvicorn
import uvloop
from uvicorn.server import ServerState

from broker import load_settings
from broker.app import create_app
from broker.logs import access_log
from broker.server.connections import BoundedConnection
from broker.server.serve import GC_THRESHOLDS
from broker.store.batching.batcher import Batcher
from tests.bench.contenders import ours
from tests.bench.generator import Request
from tests.bench.plain import PLAIN_FORMS, as_it_is
from tests.bench.rounds import CONNECTIONS, Spread
from tests.bench.workplace import ROOT, Workplace, workplace

UPLOADS = 10_000


def main() -> None:
    """Measure the named shortcuts, or all, and print a row for each."""
    options = _options()
    if options.inside:
        print(json.dumps(uvloop.run(_measured(options))))
        return
    with workplace(with_postgresql=options.database == "postgresql", python=options.python) as place:
        print(f"{'shortcut':<18}{'issue, %':>24}{'playback, %':>24}{'memory, %':>12}", flush=True)
        memory_as_it_is = _apart(place, "as_it_is", options, "--uploads-only")["memory"] if options.memory else 0
        for name in options.names or PLAIN_FORMS:
            seen = _apart(place, name, options)
            plain_memory = _apart(place, name, options, "--uploads-only")["memory"] if options.memory else 0
            spreads = [Spread(*seen[row]) for row in ("issue", "playback")]
            shown = [f"{saved.middle:.1f} ({saved.low:.1f} to {saved.high:.1f})" for saved in spreads]
            memory = f"{_percent(memory_as_it_is, plain_memory):.1f}" if options.memory else "–"
            print(f"{name:<18}{shown[0]:>24}{shown[1]:>24}{memory:>12}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*PLAIN_FORMS, []], metavar="NAME")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--requests", type=int, default=640, help="how many requests a slot has")
    parser.add_argument("--memory", action="store_true", help="measure the memory too")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--python", type=lambda name: Path(name).absolute(), default=Path(sys.executable))
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--uploads-only", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _apart(place: Workplace, name: str, options: argparse.Namespace, *more: str) -> dict[str, Any]:
    """Measure one shortcut in a process of its own; return the quartiles of each row, or the memory."""
    both = [ours(place, options.database, name=each) for each in ("whole", "plain")]
    requests = [
        {row: (request.method, list(request.paths), dict(request.headers), (request.body or b"").decode())}
        for contender in both
        for row, request in contender.requests.items()
    ]
    known = place.directory / "ablation.json"
    known.write_text(
        json.dumps(
            {
                "urls": [contender.environment["BROKER_DATABASE_URL"] for contender in both],
                "requests": [requests[0] | requests[1], requests[2] | requests[3]],
            }
        )
    )
    environment = {**both[0].environment, "BENCH_ABLATION": str(known), "PYTHONPATH": str(ROOT)}
    command = [str(place.python), "-m", "tests.bench.ablation", name, "--inside", *more]
    command += [f"--rounds={options.rounds}", f"--requests={options.requests}"]
    done = subprocess.run(
        command,
        cwd=place.directory,
        env={"PATH": os.environ["PATH"], "HOME": str(place.directory)} | environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return seen


async def _measured(options: argparse.Namespace) -> dict[str, Any]:
    """Return the quartiles of what the shortcut saves in each row, or the memory after many uploads."""
    known = json.loads(Path(os.environ["BENCH_ABLATION"]).read_text())
    form = PLAIN_FORMS[options.names[0]]
    with Path(os.devnull).open("w") as nowhere, patch.object(Batcher, "_hand_over", _run_here):
        access_log.write_to(nowhere)
        if options.uploads_only:
            with form():
                async with _Served(known["urls"][1], known["requests"][1], form) as plain:
                    await plain.answer("issue", UPLOADS)
                    return {"memory": psutil.Process().memory_info().rss}
        async with (
            _Served(known["urls"][0], known["requests"][0], as_it_is) as whole,
            _Served(known["urls"][1], known["requests"][1], form) as plain,
        ):
            gc.collect()
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLDS)
            seen = {}
            for row in ("issue", "playback"):
                for side in (whole, plain):
                    await side.answer(row, options.requests)
                saved = []
                for _ in range(options.rounds):
                    times = [await side.answer(row, options.requests) for side in (whole, plain, plain, whole)]
                    saved.append(_percent(times[0] + times[3], times[1] + times[2]))
                spread = Spread.of(saved)
                seen[row] = [spread.low, spread.middle, spread.high]
            return seen


def _run_here(self: Batcher, loop: asyncio.AbstractEventLoop, known: int, until: float) -> None:
    """Run a batch on the loop: which batches form otherwise depends on how the system schedules the threads."""
    self._settle(self._gathered.pop(loop))


class _Served:
    """The broker behind connections that only send, with a plain form for as long as it is built or answers."""

    def __init__(self, url: str, requests: dict[str, Any], form: Any) -> None:
        self._form = form
        self._requests = {row: cycle(_on_the_wire(Request(*parts))) for row, parts in requests.items()}
        with form():
            self._app = create_app(load_settings(None, database_url=url))
        self._lifespan: AbstractContextManager[Any] = nullcontext()
        self._connections: list[_Connection] = []

    async def __aenter__(self) -> "_Served":
        lifespan = self._app.router.lifespan_context(self._app)
        state = await lifespan.__aenter__()
        self._leave = lifespan.__aexit__
        config = uvicorn.Config(self._app, log_config=None, access_log=False, server_header=False)
        config.load()
        server = ServerState()
        with self._form():  # a parser keeps the methods that it calls
            self._connections = [_Connection(config, server, dict(state or {})) for _ in range(CONNECTIONS)]
        for connection in self._connections:
            connection.connection_made(connection.transport_of_its_own())
        return self

    async def __aexit__(self, *error: Any) -> None:
        for connection in self._connections:
            connection.connection_lost(None)
        await self._leave(*error)

    async def answer(self, row: str, count: int) -> float:
        """Answer `count` requests over all connections; return the processor seconds that they took."""
        todo = iter(range(count))

        async def ask(connection: _Connection) -> None:
            for _ in todo:
                await connection.answered(next(self._requests[row]))

        with ExitStack() as stack:
            stack.enter_context(self._form())
            before = time.process_time()
            await asyncio.gather(*map(ask, self._connections))
            return time.process_time() - before


class _Connection(BoundedConnection):
    """Tell when a response is complete."""

    def transport_of_its_own(self) -> "_Transport":
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self._client = socket.create_connection(listener.getsockname())
            server, _ = listener.accept()
        return _Transport(server)

    async def answered(self, request: bytes) -> None:
        self._complete = self.loop.create_future()
        self.data_received(request)
        await self._complete
        self._client.recv(65_536)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._complete.set_result(None)


class _Transport(asyncio.Transport):
    """Send what is written over a socket, and require a 2xx."""

    def __init__(self, server: socket.socket) -> None:
        super().__init__()
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._server = server

    def write(self, data: Any) -> None:
        if data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 2"):
            sys.exit(f"a request was answered with {bytes(data[:200])!r}")
        self._server.send(data)

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        """Stay open."""

    def pause_reading(self) -> None:
        """Read on."""

    def resume_reading(self) -> None:
        """Read on."""

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: object = None) -> object:
        return ("127.0.0.1", 50_000) if name in ("peername", "sockname") else default


def _on_the_wire(request: Request) -> Iterator[bytes]:
    """Yield the bytes of each request."""
    body = request.body.encode() if isinstance(request.body, str) else request.body or b""
    fields = {"Host": "127.0.0.1:8000", "User-Agent": "h2load nghttp2/1.52.0", **request.headers}
    if body:
        fields["Content-Length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    for path in request.paths:
        yield f"{request.method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def _percent(whole: float, plain: float) -> float:
    return 100 * (1 - whole / plain)


if __name__ == "__main__":
    main()
