"""The embedded S3 as a child process: started, controlled and stopped from here."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from broker.dev.s3.configuration import PART_BYTES_MIN, Configuration
from broker.dev.s3.faults import Fault
from broker.dev.s3.keyring import Session, random_key

_STOP_SECONDS = 10
_REST_SECONDS = 0.5


class EmbeddedS3:
    """A running embedded S3: its address, its first key, and its controls.

    Leaving its context stops it. It also stops when this process ends, however that happens.
    """

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._lock = threading.Lock()
        root = Path(__file__).resolve().parents[3]
        path = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            # -P: a folder `broker` in the current directory is not this package.
            [sys.executable, "-P", "-m", "broker.dev.s3.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
            # A Ctrl-C in the terminal reaches the parent, which then closes the pipe.
            start_new_session=True,
        )
        try:
            self._port = int(self._order(configuration.to_json())["port"])
        except BaseException:
            self.stop()
            raise

    @property
    def endpoint_url(self) -> str:
        """Return the URL of the service, without a slash at its end."""
        return f"http://{self._configuration.host}:{self._port}"

    @property
    def port(self) -> int:
        """Return the listening port."""
        return self._port

    @property
    def access_key(self) -> str:
        """Return the first key's id."""
        return self._configuration.keys[0][0]

    @property
    def secret_key(self) -> str:
        """Return the first key's secret."""
        return self._configuration.keys[0][1]

    @property
    def region(self) -> str:
        """Return the region that clients sign for."""
        return self._configuration.region

    @property
    def pid(self) -> int:
        """Return the id of the child process."""
        return self._process.pid

    def stop(self) -> None:
        """End the child process. Further calls do nothing."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def set_clock(self, offset_seconds: float) -> None:
        """Set how far the server's clock is ahead of the machine's (negative: behind)."""
        self._control({"clock_offset_seconds": offset_seconds})

    def add_session(self, session: Session) -> None:
        """Accept temporary credentials."""
        self._control({"session": session.to_json()})

    def order_fault(self, fault: Fault) -> None:
        """Order a fault for requests to come."""
        self._control({"fault": fault.to_json()})

    def clear_faults(self) -> None:
        """Remove the faults that no request has met."""
        self._control({"clear_faults": True})

    def __enter__(self) -> "EmbeddedS3":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _control(self, order: dict[str, Any]) -> None:
        if not self._order(order)["ok"]:
            raise RuntimeError("this embedded S3 was started without controlled=True")

    def _order(self, order: dict[str, Any]) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the embedded S3 has no pipe")
        with self._lock:
            stdin.write(json.dumps(order) + "\n")
            stdin.flush()
            line = stdout.readline()
        if not line:
            raise RuntimeError(f"the embedded S3 ended with exit status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def start_embedded_s3(
    *,
    data_dir: Path | None = None,
    durable: bool = False,
    host: str = "127.0.0.1",
    port: int = 0,
    credentials: Sequence[tuple[str, str]] = (),
    region: str = "us-east-1",
    buckets: Sequence[str] = (),
    cors_origins: Sequence[str] = (),
    sessions: Sequence[Session] = (),
    clock_offset_seconds: float = 0,
    controlled: bool = False,
    part_bytes_min: int = PART_BYTES_MIN,
) -> EmbeddedS3:
    """Start an embedded S3 and return once it answers.

    Without `data_dir` its objects end with it. The end of the process loses nothing in `data_dir`, but a power cut may
    lose the last objects unless it is `durable`: then they are flushed to the disk (fsync) before the answer.
    Without `credentials` (pairs of key id and secret) a random pair is made. `buckets` are created where they are
    missing, with CORS for pages of `cors_origins`.
    `controlled` allows the clock, further sessions and faults to be set from here. `part_bytes_min` is the smallest
    part of a multipart upload; tests of many parts need a smaller one than S3's.
    """
    return EmbeddedS3(
        Configuration(
            keys=list(credentials) or [random_key()],
            host=host,
            port=port,
            region=region,
            data_dir=data_dir,
            durable=durable,
            buckets=list(buckets),
            cors_origins=list(cors_origins),
            sessions=list(sessions),
            clock_offset_seconds=clock_offset_seconds,
            controlled=controlled,
            part_bytes_min=part_bytes_min,
        )
    )


def rest() -> NoReturn:
    """Sleep until a signal ends the process. signal.pause() would miss a signal that comes just before it."""
    while True:
        time.sleep(_REST_SECONDS)
