"""The child process: one uvicorn, one application, and a pipe to the parent.

The parent writes JSON lines to standard input: first the configuration, then orders. Each is answered by a
line on standard output. The end of the pipe ends the process, so that it never outlives its parent.
"""

import asyncio
import fcntl
import json
import os
import signal
import socket
import sys
import tempfile
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import Scope

from broker.dev.s3.app import S3App
from broker.dev.s3.auth import Authenticator
from broker.dev.s3.clock import Clock
from broker.dev.s3.configuration import Configuration
from broker.dev.s3.disk import Disk
from broker.dev.s3.faults import Fault
from broker.dev.s3.keyring import Keyring, Session
from broker.dev.s3.objects import ObjectStore
from broker.dev.s3.parts import Uploads
from broker.dev.s3.plane import Plane
from broker.dev.s3.services import Services


class Child:
    """One embedded S3, which serves until its parent process ends."""

    def __init__(self, configuration: Configuration, root: Path) -> None:
        self._controlled = configuration.controlled
        self._clock = Clock(configuration.clock_offset_seconds)
        self._keyring = Keyring(configuration.keys, configuration.sessions, self._clock)
        disk = Disk(root, durable=configuration.durable)
        services = Services(disk, configuration.region)
        for bucket in configuration.buckets:
            services.create_bucket(bucket, configuration.cors_origins)
        authenticator = Authenticator(self._keyring, self._clock, configuration.region)
        store = ObjectStore(disk)
        plane = Plane(store, services, self._clock, authenticator, Uploads(store, configuration.part_bytes_min))
        self._app = S3App(plane, reset=self._reset)
        self._socket = socket.create_server((configuration.host, configuration.port), backlog=512)
        # Connections inherit it. asyncio sets it only on sockets that name their protocol, and without it a response
        # whose body is written after its head waits 40 ms for the client's delayed acknowledgment.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._app,
                log_level="warning",
                access_log=False,
                lifespan="off",
                server_header=False,
                # The application sets this header from the movable clock.
                date_header=False,
                # Longer than clients keep an idle connection, so that the server never closes one in use.
                timeout_keep_alive=75,
                timeout_graceful_shutdown=1,
            )
        )

    @property
    def port(self) -> int:
        """Return the listening port."""
        return int(self._socket.getsockname()[1])

    def run(self) -> None:
        """Serve until standard input ends."""
        threading.Thread(target=self._obey, daemon=True).start()
        asyncio.run(self._server.serve(sockets=[self._socket]))

    def _obey(self) -> None:
        for line in sys.stdin:
            answer: dict[str, Any] = {"ok": self._controlled}
            if self._controlled:
                self._carry_out(json.loads(line))
            _say(answer)
        self._server.should_exit = True

    def _carry_out(self, order: dict[str, Any]) -> None:
        match order:
            case {"clock_offset_seconds": offset_seconds}:
                self._clock.offset_seconds = float(offset_seconds)
            case {"session": session}:
                self._keyring.add(Session.from_json(session))
            case {"fault": fault}:
                self._app.faults.ordered.append(Fault(**fault))
            case {"clear_faults": True}:
                self._app.faults.ordered.clear()

    def _reset(self, scope: Scope) -> None:
        for connection in self._server.server_state.connections:
            if getattr(connection, "client", None) == tuple(scope["client"]):
                transport = connection.transport
                transport.abort()


def main() -> None:
    """Read the configuration, print the port, and serve."""
    configuration = Configuration.from_json(json.loads(sys.stdin.readline()))
    with ExitStack() as stack:
        root = configuration.data_dir
        if root is None:
            root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="embedded-s3-")))
        root.mkdir(parents=True, exist_ok=True)
        lock = stack.enter_context((root / "lock").open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"{root} is in use by another embedded S3")
        child = Child(configuration, root)
        # uvicorn raises a caught signal again. An exception ends the process so that the directory is removed.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        _say({"port": child.port})
        with suppress(SystemExit):
            child.run()
    # A thread that waits for SQS messages must not delay the exit.
    os._exit(0)


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
