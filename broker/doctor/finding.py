"""What one check found, and how to mend it."""

from dataclasses import asdict, dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How well it is."""

    OK = "ok"
    WARN = "warn"
    """It works, but not for everybody, not for long, or not as it should."""
    FAIL = "fail"
    SKIP = "skip"
    """Not looked at, because something else has to be mended first."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Say what a check saw; where that is not well, also the cause, and what mends it."""

    check: str
    verdict: Verdict
    seen: str
    cause: str = ""
    mend: str = ""
    """A command to run, or a setting to set, as it is written."""
    terraform: str = ""
    """The resource of infra/terraform that says the same."""
    loud: bool = False
    """Nothing else matters before this is mended."""

    def to_json(self) -> dict[str, str | bool]:
        """Return all fields."""
        return asdict(self)


def ok(check: str, seen: str) -> Finding:
    """Find that a thing is as it should be."""
    return Finding(check, Verdict.OK, seen)


def skip(check: str, because: str) -> Finding:
    """Find that a thing could not be looked at."""
    return Finding(check, Verdict.SKIP, f"not looked at: {because}")


def warn(check: str, seen: str, *, cause: str, mend: str, terraform: str = "") -> Finding:
    """Find what works today, and who or what it will fail."""
    return Finding(check, Verdict.WARN, seen, cause, mend, terraform)


def fail(check: str, seen: str, *, cause: str, mend: str, terraform: str = "", loud: bool = False) -> Finding:
    """Find what is wrong."""
    return Finding(check, Verdict.FAIL, seen, cause, mend, terraform, loud)
