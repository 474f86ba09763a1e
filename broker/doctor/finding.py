"""The finding of one check, with its cause and its fix."""

from dataclasses import asdict, dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """The result of a check."""

    OK = "ok"
    WARN = "warn"
    """It works, but not for all clients, not for long, or not as it should."""
    FAIL = "fail"
    SKIP = "skip"
    """Not checked, because another fault has to be fixed first."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check; a warning or failure has a cause and a fix."""

    check: str
    verdict: Verdict
    detail: str
    cause: str = ""
    fix: str = ""
    """A command to run, or a setting to set, ready to copy."""
    terraform: str = ""
    """The part of infra/terraform that does the same."""
    loud: bool = False
    """Shown above everything else, because nothing else matters before it is fixed."""

    def to_json(self) -> dict[str, str | bool]:
        """Return all fields."""
        return asdict(self)


def ok(check: str, detail: str) -> Finding:
    """Return a finding without a fault."""
    return Finding(check, Verdict.OK, detail)


def skip(check: str, reason: str) -> Finding:
    """Return the finding of a check that could not be made."""
    return Finding(check, Verdict.SKIP, f"not checked: {reason}")


def warn(check: str, detail: str, *, cause: str, fix: str, terraform: str = "") -> Finding:
    """Return a finding that works today, but not for every client or not for long."""
    return Finding(check, Verdict.WARN, detail, cause, fix, terraform)


def fail(check: str, detail: str, *, cause: str, fix: str, terraform: str = "", loud: bool = False) -> Finding:
    """Return a finding with a fault."""
    return Finding(check, Verdict.FAIL, detail, cause, fix, terraform, loud)
