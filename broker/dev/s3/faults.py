"""Injected faults: a test orders how the next requests for an operation fail."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from broker.dev.s3.errors import S3Error


@dataclass(slots=True)
class Fault:
    """Spoil the next `count` requests for `operation` (a name of the Amazon S3 API Reference, or `*`).

    The request answers `code` with `status`; a status of 200 with an error's XML is what CopyObject may do.
    `reset` breaks the connection instead, `delay_seconds` waits first, and neither code nor reset only waits.
    With `when="after"` the operation takes effect before its answer is spoilt. `key_prefix` narrows the keys.
    """

    operation: str
    count: int = 1
    code: str | None = None
    status: int | None = None
    reset: bool = False
    delay_seconds: float = 0
    when: Literal["before", "after"] = "before"
    key_prefix: str = ""

    def error(self) -> S3Error | None:
        """Return the error that the request answers, or None if it answers none."""
        return None if self.code is None else S3Error(self.code, status=self.status)

    def to_json(self) -> dict[str, Any]:
        """Return the arguments of this fault as a JSON document."""
        return asdict(self)


@dataclass(slots=True)
class Faults:
    """The faults that no request has met yet, in the order in which they were ordered."""

    ordered: list[Fault] = field(default_factory=list)

    def take(self, operation: str, key: str) -> Fault | None:
        """Return the fault that a request meets, or None, and count it."""
        for fault in self.ordered:
            if fault.operation in (operation, "*") and key.startswith(fault.key_prefix):
                fault.count -= 1
                if fault.count <= 0:
                    self.ordered.remove(fault)
                return fault
        return None
