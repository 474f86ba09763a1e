"""Evaluate the policy of a POST Object: its expiry, its conditions, and the fields it leaves uncovered.

Source: Amazon S3 API Reference, "Creating a POST Policy".
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from broker.dev.s3.errors import S3Error

UNCONDITIONED = frozenset({"x-amz-signature", "file", "policy"})
IGNORED_PREFIX = "x-ignore-"
_LENGTH_RANGE = "content-length-range"
_BYTES = re.compile(r"[0-9]{1,18}")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition; `name` is in lower case and without its `$`, `source` is how the policy wrote it."""

    operator: str
    name: str
    value: str
    source: str

    def holds(self, fields: Mapping[str, str]) -> bool:
        """Tell whether a form's fields meet this condition; a field that is absent meets none."""
        found = fields.get(self.name)
        if found is None:
            return False
        if self.operator == "eq":
            return found == self.value
        if self.name == "content-type":
            # AWS takes a comma-separated Content-Type as a list, each of which must start so.
            return all(part.strip().startswith(self.value) for part in found.split(","))
        return found.startswith(self.value)


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy document as read."""

    expires_at: datetime
    conditions: tuple[Condition, ...]
    size_min: int
    size_max: int | None

    def enforce(self, fields: Mapping[str, str], bucket: str, now: datetime) -> None:
        """Refuse with `AccessDenied` a form that this policy does not allow at `now`."""
        if now >= self.expires_at:
            raise _denied("Policy expired.")
        known = {**fields, "bucket": bucket}
        for condition in self.conditions:
            if not condition.holds(known):
                raise _denied(f"Policy Condition failed: {condition.source}")
        covered = {condition.name for condition in self.conditions} | UNCONDITIONED
        extra = [name for name in fields if name not in covered and not name.startswith(IGNORED_PREFIX)]
        if extra:
            raise _denied(f"Extra input fields: {', '.join(extra)}")

    def check_upper_bound(self, size: int) -> None:
        """Refuse a file as soon as it is larger than the range allows; the bound itself is allowed."""
        if self.size_max is not None and size > self.size_max:
            raise S3Error("EntityTooLarge", ProposedSize=size, MaxSizeAllowed=self.size_max)

    def check_lower_bound(self, size: int) -> None:
        """Refuse a complete file that is smaller than the range allows; the bound itself is allowed."""
        if size < self.size_min:
            raise S3Error("EntityTooSmall", ProposedSize=size, MinSizeAllowed=self.size_min)


def read_policy(encoded: str) -> Policy:
    """Read a base64 policy; anything but a well-formed document is an `InvalidPolicyDocument`."""
    try:
        document = json.loads(base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError, RecursionError):
        raise _invalid("Invalid JSON.") from None
    if not isinstance(document, dict):
        raise _invalid("Invalid JSON.")
    if unknown := set(document) - {"expiration", "conditions"}:
        raise _invalid(f"Unexpected: '{sorted(unknown)[0]}'.")
    if "expiration" not in document:
        raise _invalid("Policy missing expiration.")
    if not isinstance(document.get("conditions"), list):
        raise _invalid("Policy missing conditions.")
    conditions: list[Condition] = []
    size_min, size_max = 0, None
    for item in document["conditions"]:
        if isinstance(item, list) and item and item[0] == _LENGTH_RANGE:
            low, high = _length_range(item)
            size_min = max(size_min, low)
            size_max = high if size_max is None else min(size_max, high)
        else:
            conditions.append(_condition(item))
    return Policy(_expiration(document["expiration"]), tuple(conditions), size_min, size_max)


def _condition(item: Any) -> Condition:
    source = json.dumps(item, ensure_ascii=False)
    match item:
        case dict():
            if len(item) != 1:
                raise _invalid("Invalid Simple-Condition: Simple-Conditions must have exactly one property specified.")
            ((name, value),) = item.items()
            if not isinstance(value, str):
                raise _invalid("Invalid Simple-Condition: value must be a string.")
            source = json.dumps(["eq", f"${name}", value], ensure_ascii=False)
            return Condition("eq", name.lower(), value, source)
        case [str(operator), str(name), str(value)]:
            if operator not in ("eq", "starts-with"):
                raise _invalid(f"Unknown Operator: '{operator}'.")
            if not name.startswith("$"):
                raise _invalid(f"Invalid Condition: '{name}' must start with a '$'.")
            return Condition(operator, name[1:].lower(), value, source)
    raise _invalid("Invalid Condition: expected three strings or one property.")


def _length_range(item: list[Any]) -> tuple[int, int]:
    bounds = [str(bound) for bound in item[1:] if type(bound) in (int, str)]
    if len(item) != 3 or len(bounds) != 2 or not all(_BYTES.fullmatch(bound) for bound in bounds):
        raise _invalid("Invalid Condition: content-length-range takes two numbers.")
    return int(bounds[0]), int(bounds[1])


def _expiration(text: Any) -> datetime:
    try:
        if _INSTANT.fullmatch(text):
            return datetime.fromisoformat(text).astimezone(UTC)
    except (TypeError, ValueError):
        pass
    raise _invalid(f"Invalid 'expiration' value: '{text}'")


def _denied(why: str) -> S3Error:
    return S3Error("AccessDenied", f"Invalid according to Policy: {why}")


def _invalid(why: str) -> S3Error:
    return S3Error("InvalidPolicyDocument", f"Invalid Policy: {why}")
