"""A checker of Terraform plans: excessive or ineffective rights, missing conditions, settings that open the bucket."""

from collections.abc import Iterator
from typing import Any

from tests.infra.condition_keys import unsent
from tests.infra.expected import Variant, expected_settings, expected_statements
from tests.infra.plan import Statement, resources, statements

KEY = "aws_kms_key.media[0]"


def violations(plan: dict[str, Any], variant: Variant) -> list[str]:
    """Return one line for each violation, each beginning with the address of the resource."""
    return [
        *_wildcards(plan),
        *_ineffective(plan),
        *_unexpected(plan, variant),
        *_settings(plan, variant),
        *_playback(plan, variant),
    ]


def _wildcards(plan: dict[str, Any]) -> Iterator[str]:
    """Find rights that are wider than they look, in any policy."""
    for address, policy in statements(plan).items():
        for statement in policy:
            if statement.effect == "Allow" and (address, statement.sid) != (KEY, "AllowAccount"):
                problems = _too_wide(statement, is_key=address == KEY)
                yield from (f"{address}: {statement.sid} {problem}" for problem in problems)


def _too_wide(statement: Statement, *, is_key: bool) -> Iterator[str]:
    if any("*" in action for action in statement.actions):
        yield "allows a wildcard of actions"
    if not statement.condition:
        yield "allows without a condition"
    if "*" in statement.principal:
        yield "allows every principal"
    # In a key's own policy, "*" means that key.
    if not is_key and any("*" in to.removesuffix("/staging/*").removesuffix("/media/*") for to in statement.resources):
        yield "allows a wildcard of resources"


def _ineffective(plan: dict[str, Any]) -> Iterator[str]:
    """Find rights that are never granted, because their condition is on a key that AWS does not send."""
    for address, policy in statements(plan).items():
        for statement in policy:
            if statement.effect == "Allow":
                for key, action in unsent(statement):
                    yield f"{address}: {statement.sid} needs {key}, which is not sent for {action}"


def _unexpected(plan: dict[str, Any], variant: Variant) -> Iterator[str]:
    expected, planned = expected_statements(plan, variant), statements(plan)
    for address in expected.keys() | planned.keys():
        difference = expected.get(address, set()) ^ set(planned.get(address, ()))
        for sid in sorted({statement.sid for statement in difference}):
            yield f"{address}: {sid} differs from the expected statement"


def _settings(plan: dict[str, Any], variant: Variant) -> Iterator[str]:
    made = resources(plan)
    for address, settings in expected_settings(variant).items():
        for path, value in settings.items():
            if address not in made:
                yield f"{address}: is missing"
            elif (planned := _at(made[address], path)) != value:
                yield f"{address}: {path} is {planned!r}, not {value!r}"
    for queue in made["aws_s3_bucket_notification.media"]["queue"][1:]:
        yield f"aws_s3_bucket_notification.media: also notifies of {queue['filter_prefix']!r}"
    for rule in made["aws_s3_bucket_lifecycle_configuration.media"]["rule"]:
        expires_objects = any(part.get("days") or part.get("date") for part in rule["expiration"])
        if expires_objects and rule["filter"][0]["prefix"] != "staging/":
            yield f"aws_s3_bucket_lifecycle_configuration.media: {rule['id']} expires current objects outside staging/"


def _playback(plan: dict[str, Any], variant: Variant) -> Iterator[str]:
    if not variant.cloudfront:
        return
    made = resources(plan)
    address = "aws_cloudfront_distribution.media[0]"
    behavior = made[address]["default_cache_behavior"][0]
    if behavior["trusted_key_groups"] != [made["aws_cloudfront_key_group.playback[0]"]["id"]]:
        yield f"{address}: unsigned links give access to media"
    if made[address]["ordered_cache_behavior"]:
        yield f"{address}: another behavior may serve media without a signature"
    access = made["aws_cloudfront_origin_access_control.media[0]"]["id"]
    if [origin["origin_access_control_id"] for origin in made[address]["origin"]] != [access]:
        yield f"{address}: requests to an origin are not signed"


def _at(values: Any, path: str) -> Any:
    """Return the value at a path, or None if there is none."""
    for step in path.split("."):
        try:
            values = values[int(step) if step.isdigit() else step]
        except (IndexError, KeyError, TypeError):
            return None
    return sorted(values) if isinstance(values, list) and all(isinstance(value, str) for value in values) else values
