"""POST policies: their expiration, their conditions, and the fields that they leave uncovered.

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
_INTEGER = re.compile(r"-?[0-9]+")
_BYTES = re.compile(r"[0-9]{1,18}")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)
_ESCAPE = re.compile(r"\\.", re.DOTALL)
_S3_ESCAPES = {r"\$": "$", r"\v": r"\u000b"}
"""Escapes of S3 that JSON lacks ("Creating a POST Policy", section "Character Escaping")."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition. `name` is in lower case and without its `$`; `source` is the text that a refusal shows.

    A condition without a name never holds: S3 accepts such a policy, and refuses every form that carries it.
    """

    operator: str
    name: str | None
    value: str
    source: str

    def holds(self, fields: Mapping[str, str]) -> bool:
        """Return whether a form's fields meet this condition; an absent field meets none."""
        value = None if self.name is None else fields.get(self.name)
        if value is None:
            return False
        if self.operator == "eq":
            return value == self.value
        if self.name == "content-type":
            # AWS takes a comma-separated Content-Type as a list, each of which must start so.
            return all(part.strip().startswith(self.value) for part in value.split(","))
        return value.startswith(self.value)


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy document."""

    expires_at: datetime
    conditions: tuple[Condition, ...]
    size_min: int
    size_max: int | None

    def enforce(self, fields: Mapping[str, str], bucket: str, now: datetime) -> None:
        """Refuse with `AccessDenied` a form that this policy does not allow at `now`.

        The policy must name the bucket, as it must name each field.
        """
        if now >= self.expires_at:
            raise _denied("Policy expired.")
        known = {**fields, "bucket": bucket}
        for condition in self.conditions:
            if not condition.holds(known):
                raise _denied(f"Policy Condition failed: {condition.source}")
        covered = {condition.name for condition in self.conditions} | UNCONDITIONED
        extra = [name for name in known if name not in covered and not name.startswith(IGNORED_PREFIX)]
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
    document = _decode(encoded)
    if not isinstance(document, dict):
        raise _invalid("Invalid JSON.")
    if unknown := set(document) - {"expiration", "conditions"}:
        raise _invalid(f"Unexpected: '{sorted(unknown)[0]}'.")
    if "expiration" not in document:
        raise _invalid("Policy missing expiration.")
    if "conditions" not in document:
        raise _invalid("Policy missing conditions.")
    if not isinstance(document["conditions"], list):
        raise _invalid("Invalid 'conditions' value: must be a List.")
    conditions: list[Condition] = []
    size_min, size_max = 0, None
    for item in document["conditions"]:
        condition = _condition(item)
        if isinstance(condition, Condition):
            conditions.append(condition)
        else:
            low, high = condition
            size_min = max(size_min, low)
            size_max = high if size_max is None else min(size_max, high)
    return Policy(_expiration(document["expiration"]), tuple(conditions), size_min, size_max)


def _decode(encoded: str) -> Any:
    if not encoded:
        raise _invalid("Expecting '{' but found End-of-Input")
    try:
        document = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise _invalid("invalid Base64 encoding.") from None
    try:
        text = _ESCAPE.sub(lambda escape: _S3_ESCAPES.get(escape[0], escape[0]), document.decode())
        return json.loads(text)
    except (ValueError, RecursionError):
        raise _invalid("Invalid JSON.") from None


def _condition(item: Any) -> Condition | tuple[int, int]:
    """Read one condition; a content-length-range becomes its two bounds."""
    source = json.dumps(item, ensure_ascii=False)
    match item:
        case dict():
            return _simple_condition(item)
        case []:
            raise _invalid("Invalid Condition: missing operation identifier.")
        case ["eq" | "starts-with" | "content-length-range" as operator, *arguments]:
            if len(arguments) != 2:
                raise _invalid(f"Invalid {operator}: wrong number of arguments.")
            if operator == _LENGTH_RANGE:
                return _length_range(arguments, source)
            name, value = arguments
            if not isinstance(name, str) or not isinstance(value, str):
                raise _invalid("Invalid JSON.")
            return Condition(operator, name[1:].lower() if name.startswith("$") else None, value, source)
        case [str(operator), *_]:
            raise _invalid(f"Invalid Condition: unknown operation '{operator}'.")
        case list():
            raise _invalid("Invalid JSON.")
    raise _invalid("Invalid condition: must be a List or Object.")


def _simple_condition(item: dict[str, Any]) -> Condition:
    if len(item) != 1:
        raise _invalid("Invalid Simple-Condition: Simple-Conditions must have exactly one property specified.")
    ((name, value),) = item.items()
    if not isinstance(value, str):
        raise _invalid("Invalid Simple-Condition: value must be a string.")
    return Condition("eq", name.lower(), value, json.dumps(["eq", f"${name}", value], ensure_ascii=False))


def _length_range(bounds: list[Any], source: str) -> Condition | tuple[int, int]:
    """Read two bounds, as numbers or as text; text that is no number makes a condition that never holds."""
    if not all(type(bound) in (int, str) for bound in bounds):
        raise _invalid("Invalid JSON.")
    low, high = (str(bound) for bound in bounds)
    if not (_INTEGER.fullmatch(low) and _INTEGER.fullmatch(high)):
        return Condition(_LENGTH_RANGE, None, "", source)
    if not (_BYTES.fullmatch(low) and _BYTES.fullmatch(high)):
        raise _invalid(f"Invalid {_LENGTH_RANGE}: a bound must be a number of bytes.")
    return int(low), int(high)


def _expiration(text: Any) -> datetime:
    try:
        if _INSTANT.fullmatch(text):
            return datetime.fromisoformat(text).astimezone(UTC)
    except (TypeError, ValueError):
        pass
    raise _invalid(f"Invalid 'expiration' value: '{text}'")


def _denied(reason: str) -> S3Error:
    return S3Error("AccessDenied", f"Invalid according to Policy: {reason}")


def _invalid(reason: str) -> S3Error:
    return S3Error("InvalidPolicyDocument", f"Invalid Policy: {reason}")
