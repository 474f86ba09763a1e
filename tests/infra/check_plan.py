"""Say what is wrong with a plan: a right too many, a condition too few, a setting that opens what must stay closed."""

from collections.abc import Iterator
from typing import Any

from tests.infra.expected import Variant, expected_settings, expected_statements
from tests.infra.plan import Statement, resources, statements

KEY = "aws_kms_key.media[0]"


def violations(plan: dict[str, Any], variant: Variant) -> list[str]:
    """Return one line for each thing that is wrong, each beginning with the address of the resource."""
    return [*_wildcards(plan), *_unexpected(plan, variant), *_settings(plan, variant), *_playback(plan, variant)]


def _wildcards(plan: dict[str, Any]) -> Iterator[str]:
    """Find rights that are wider than a reader would think, wherever they stand."""
    for address, found in statements(plan).items():
        for one in found:
            if one.effect == "Allow" and (address, one.sid) != (KEY, "AllowAccount"):
                yield from (f"{address}: {one.sid} {problem}" for problem in _too_wide(one, is_key=address == KEY))


def _too_wide(statement: Statement, *, is_key: bool) -> Iterator[str]:
    if any("*" in action for action in statement.actions):
        yield "allows a wildcard of actions"
    if not statement.condition:
        yield "allows without a condition"
    if "*" in statement.principal:
        yield "allows everybody"
    # In a key's own policy "*" is that key.
    if not is_key and any("*" in to.removesuffix("/staging/*").removesuffix("/media/*") for to in statement.resources):
        yield "allows a wildcard of resources"


def _unexpected(plan: dict[str, Any], variant: Variant) -> Iterator[str]:
    expected, found = expected_statements(plan, variant), statements(plan)
    for address in expected.keys() | found.keys():
        difference = expected.get(address, set()) ^ set(found.get(address, ()))
        for sid in sorted({one.sid for one in difference}):
            yield f"{address}: {sid} is not what it should be"


def _settings(plan: dict[str, Any], variant: Variant) -> Iterator[str]:
    made = resources(plan)
    for address, settings in expected_settings(variant).items():
        for path, value in settings.items():
            if address not in made:
                yield f"{address}: is missing"
            elif (found := _at(made[address], path)) != value:
                yield f"{address}: {path} is {found!r}, not {value!r}"
    for queue in made["aws_s3_bucket_notification.media"]["queue"][1:]:
        yield f"aws_s3_bucket_notification.media: also tells of {queue['filter_prefix']!r}"
    for rule in made["aws_s3_bucket_lifecycle_configuration.media"]["rule"]:
        ends_objects = any(one.get("days") or one.get("date") for one in rule["expiration"])
        if ends_objects and rule["filter"][0]["prefix"] != "staging/":
            yield f"aws_s3_bucket_lifecycle_configuration.media: {rule['id']} ends current objects outside staging/"


def _playback(plan: dict[str, Any], variant: Variant) -> Iterator[str]:
    if not variant.cloudfront:
        return
    made = resources(plan)
    address = "aws_cloudfront_distribution.media[0]"
    behaviour = made[address]["default_cache_behavior"][0]
    if behaviour["trusted_key_groups"] != [made["aws_cloudfront_key_group.playback[0]"]["id"]]:
        yield f"{address}: unsigned links open media"
    if made[address]["ordered_cache_behavior"]:
        yield f"{address}: another behaviour may open media unsigned"
    access = made["aws_cloudfront_origin_access_control.media[0]"]["id"]
    if [origin["origin_access_control_id"] for origin in made[address]["origin"]] != [access]:
        yield f"{address}: an origin is asked without signature"


def _at(values: Any, path: str) -> Any:
    """Return what stands at a path, or None."""
    for step in path.split("."):
        try:
            values = values[int(step) if step.isdigit() else step]
        except (IndexError, KeyError, TypeError):
            return None
    return sorted(values) if isinstance(values, list) and all(isinstance(one, str) for one in values) else values
