"""Logging: one line of JSON for each event, and one processor that redacts secrets.

The lines of other libraries (uvicorn, SQLAlchemy, botocore) pass the same processor.
"""

import asyncio
import atexit
import logging
import re
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from io import TextIOBase
from queue import Full, Queue
from threading import Thread
from typing import Any, TextIO, cast

import structlog
from pydantic_core import to_json
from structlog.typing import EventDict, Processor, WrappedLogger

REDACTED = "[redacted]"
SECRET_NAMES = frozenset(
    {
        "authorization",
        "cookie",
        "fields",
        "filename",
        "metadata",
        "password",
        "policy",
        "secret",
        "signature",
        "signed_url",
        "state",
        "token",
        "upload_token",
        "url",
        "x-amz-credential",
        "x-amz-security-token",
        "x-amz-signature",
    }
)
"""Keys whose values are always redacted."""

_SECRETS_BY_FORM = re.compile(
    r"""
      eyJ[\w+/=-]{10,}(?:\.[\w-]*){0,2}                          # a JSON object in base64: a token, a policy
    | \bs3mu_[\w.-]+                                            # an upload token
    | (?i:bearer)\s+[\w.~+/=-]+
    | \b(?:AKIA|ASIA)[A-Z0-9]{12,}\b                             # an AWS access key id
    | (?i:x-amz-(?:credential|security-token|signature))[=:]\s*[^\s&"',}]+
    | (?<=://)[^\s/@]+@                                          # the user and password of an address
    | \b[0-9a-f]{64}\b                                           # a signature
    | (?<=/uploaded/)[^\s/?"'{]+                                 # the state of a plain form
    | -----BEGIN[\s\S]+?-----END[^-]*-----
    """,
    re.VERBOSE,
)
MAX_WAITING_WRITES = 1000
"""How many writes may wait for a reader of the log; each is a line, or the requests of one event loop iteration."""
FINISH_SECONDS = 2.0
"""How long the end of the process waits until the log is written."""
MIN_KNOWN_LENGTH = 8
"""A shorter secret is not searched for by its text, because it would match inside harmless words."""


class Redact:
    """Redact values that are secret by their key, by their form, or as a secret of this deployment."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = sorted({secret for secret in secrets if len(secret) >= MIN_KNOWN_LENGTH}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        """Return the event without secrets (the interface of a structlog processor)."""
        return {name: self._value(name, value) for name, value in event.items()}

    def text(self, text: str) -> str:
        """Return `text` without secrets."""
        if self._known is not None:
            text = self._known.sub(REDACTED, text)
        return _SECRETS_BY_FORM.sub(REDACTED, text)

    def _value(self, name: str, value: Any) -> Any:
        if value is None or isinstance(value, bool | int | float):
            return value
        if name.lower() in SECRET_NAMES:
            return REDACTED
        if isinstance(value, dict):
            return {self.text(str(key)): self._value(str(key), inner) for key, inner in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._value("", inner) for inner in value]
        return self.text(value if isinstance(value, str) else str(value))


REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the current request; each line that it logs carries the id."""


class AccessLog:
    """Write the one line of each request, without structlog's cost.

    Nothing is redacted here: a line holds only the broker's own words, numbers, an id and an address. The lines of one
    iteration of the event loop are written together.
    """

    def __init__(self) -> None:
        self._stream: TextIO | None = None
        self._lines: list[str] = []
        self._flushing_on: asyncio.AbstractEventLoop | None = None

    def write_to(self, stream: TextIO | None) -> None:
        """Write to `stream` from now on; with None, through structlog like every other event."""
        self._stream = stream

    def request(self, **members: str | float | None) -> None:
        """Write one line."""
        if self._stream is None:
            structlog.get_logger("broker.access").info("request", **members)
            return
        line = to_json({**members, "event": "request", "level": "info", "timestamp": _now()})
        self._lines.append(f"{line.decode()}\n")
        loop = asyncio.get_running_loop()
        if self._flushing_on is not loop:
            self._flushing_on = loop
            loop.call_soon(self._flush, self._stream)

    def _flush(self, stream: TextIO) -> None:
        self._flushing_on = None
        lines, self._lines = self._lines, []
        stream.write("".join(lines))
        stream.flush()


access_log = AccessLog()


class UnblockedStream(TextIOBase):
    """Write to a stream on a thread, so that a reader that does not read never blocks the event loop.

    Text beyond MAX_WAITING_WRITES is dropped; a line tells how much once the stream is read again.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._waiting: Queue[str | None] = Queue(MAX_WAITING_WRITES)
        self._dropped = 0
        self._thread = Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()
        atexit.register(self._finish)

    def write(self, text: str) -> int:
        """Queue `text`, or drop it if the stream is too far behind."""
        try:
            self._waiting.put_nowait(text)
        except Full:
            self._dropped += 1
        return len(text)

    def flush(self) -> None:
        """Do nothing; the thread flushes after each write."""

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        return self._stream.isatty()

    def _write_all(self) -> None:
        reported = 0
        while (text := self._waiting.get()) is not None:
            if count := self._dropped - reported:
                reported += count
                text += f'{{"event": "log writes were dropped", "count": {count}, "level": "warning"}}\n'
            with suppress(OSError, ValueError):  # the stream was closed
                self._stream.write(text)
                self._stream.flush()

    def _finish(self) -> None:
        with suppress(Full):
            self._waiting.put_nowait(None)
        self._thread.join(FINISH_SECONDS)


@lru_cache(maxsize=1)
def _unblocked(stream: TextIO) -> TextIO:
    return cast(TextIO, UnblockedStream(stream))


def configure_logging(
    level: str = "info", *, secrets: Iterable[str] = (), stream: TextIO | None = None, pretty: bool = False
) -> None:
    """Write what is logged from `level` on to `stream` (standard output), as JSON or, `pretty`, for a person.

    Tracebacks are written without the values of variables, and redacted like all else.
    """
    out = stream or _unblocked(sys.stdout)
    least = logging.getLevelNamesMapping()[level.upper()]
    redact = Redact(secrets)
    access_log.write_to(None if pretty or least > logging.INFO else out)
    shared: list[Processor] = [
        _with_request_id,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    render: Processor = structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, redact, render],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(), _without_color_message],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, redact, render],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(least)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
    for name in ("boto3", "botocore", "httpcore", "httpx", "s3transfer", "urllib3"):  # they log what they send
        logging.getLogger(name).setLevel(max(least, logging.WARNING))


def _with_request_id(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    request_id = REQUEST_ID.get()
    return event if request_id is None else {**event, "request_id": request_id}


def _without_color_message(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Drop what uvicorn adds for a terminal: the event once more, with escape codes."""
    event.pop("color_message", None)
    return event


def _now() -> str:
    """Return the time to the millisecond, such as `2026-01-02T03:04:05.678Z`."""
    second, fraction = divmod(time.time(), 1)
    return f"{_second(second)}.{int(fraction * 1000):03}Z"


@lru_cache(maxsize=4)
def _second(second: float) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat().removesuffix("+00:00")
