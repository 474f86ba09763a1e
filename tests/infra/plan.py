"""A reader of Terraform's JSON plans: resources by address, and the statements of their policies."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Condition = frozenset[tuple[str, str, tuple[str, ...]]]
"""Operator, key and values."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a policy, in a normalized form."""

    sid: str
    effect: str
    principal: str
    actions: frozenset[str]
    resources: frozenset[str]
    condition: Condition

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Statement":
        """Parse a statement. Raises KeyError if it uses NotAction, NotResource or NotPrincipal."""
        principal = document.get("Principal", "")
        if isinstance(principal, dict):
            principal = ",".join(f"{kind}:{name}" for kind, names in principal.items() for name in _several(names))
        return cls(
            sid=document.get("Sid", ""),
            effect=document["Effect"],
            principal=principal,
            actions=frozenset(_several(document["Action"])),
            resources=frozenset(_several(document["Resource"])),
            condition=frozenset(
                (operator, key, tuple(sorted(_several(values))))
                for operator, keys in document.get("Condition", {}).items()
                for key, values in keys.items()
            ),
        )


def resources(plan: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the planned values of each managed resource, by its address."""
    return {resource["address"]: resource["values"] for resource in _modules(plan["planned_values"]["root_module"])}


def statements(plan: dict[str, Any]) -> dict[str, list[Statement]]:
    """Return the statements of every policy in the plan, by the address of the resource that carries it."""
    return {
        address: [Statement.from_json(statement) for statement in json.loads(values["policy"])["Statement"]]
        for address, values in resources(plan).items()
        if values.get("policy") and not address.startswith("aws_s3_bucket.")  # a bucket repeats its attached policy
    }


def changed(plan: dict[str, Any]) -> list[str]:
    """Return the addresses of the resources that the plan would change."""
    unchanged = (["no-op"], ["read"])
    changes = plan["resource_changes"]
    return [change["address"] for change in changes if change["change"]["actions"] not in unchanged]


def _modules(module: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from (resource for resource in module.get("resources", ()) if resource["mode"] == "managed")
    for child in module.get("child_modules", ()):
        yield from _modules(child)


def _several(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
