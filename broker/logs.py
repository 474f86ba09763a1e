"""One line of JSON for each event, and one processor that lets no secret through.

The lines of other libraries (uvicorn, SQLAlchemy, botocore) take the same way out.
"""

import logging
import re
import sys
from collections.abc import Iterable
from typing import Any, TextIO

import structlog
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
        "url",
        "x-amz-credential",
        "x-amz-security-token",
        "x-amz-signature",
    }
)
"""What is never logged under these names, whatever it looks like."""

_SECRETS_BY_FORM = re.compile(
    r"""
      eyJ[\w+/=-]{10,}(?:\.[\w-]*){0,2}                          # a JSON object in base64: a token, a policy
    | (?i:bearer)\s+[\w.~+/=-]+
    | \b(?:AKIA|ASIA)[A-Z0-9]{12,}\b                             # an AWS access key id
    | (?i:x-amz-(?:credential|security-token|signature))[=:]\s*[^\s&"',}]+
    | (?<=://)[^\s/@]+@                                          # what stands before the host of an address
    | \b[0-9a-f]{64}\b                                           # a signature
    | (?<=/uploaded/)[^\s/?"'{]+                                 # the state of a plain form
    | -----BEGIN[\s\S]+?-----END[^-]*-----
    """,
    re.VERBOSE,
)
MIN_KNOWN_LENGTH = 8
"""A shorter secret is not looked for by its text: it would be found in the middle of harmless words."""


class Redact:
    """Replace what is secret by its name, its form, or because it is one of the secrets of this deployment."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = sorted({secret for secret in secrets if len(secret) >= MIN_KNOWN_LENGTH}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        """Return the event without secrets; structlog's form of a processor."""
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


def configure_logging(
    level: str = "info", *, secrets: Iterable[str] = (), stream: TextIO | None = None, pretty: bool = False
) -> None:
    """Write what is logged from `level` on to `stream` (standard output), as JSON or, `pretty`, for a person.

    Tracebacks are written without the values of variables, and redacted like all else.
    """
    out = stream or sys.stdout
    least = logging.getLevelNamesMapping()[level.upper()]
    redact = Redact(secrets)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
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
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
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
