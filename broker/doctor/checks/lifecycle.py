"""The checks of the lifecycle rules: they must clear the staging prefix, and must not remove promoted media.

Source: Amazon S3 User Guide, "Lifecycle configuration elements".
"""

from collections.abc import Sequence
from typing import Any

from broker.doctor.checks.configuration import unreadable
from broker.doctor.deployment import Patient, Refused
from broker.doctor.finding import Finding, fail, ok, skip, warn

STAGING = "staging/"
MEDIA = "media/"
STAGING_DAYS = 2
"""The value in infra/terraform. S3 rounds up to the next midnight (UTC). The first part of a resumable upload must be
there when its last part arrives, a day later by default."""
DAY_SECONDS = 86_400
CLEAR_STAGING = {
    "ID": "broker-staging",
    "Status": "Enabled",
    "Filter": {"Prefix": STAGING},
    "Expiration": {"Days": STAGING_DAYS},
}
ABORT_LEFTOVERS = {
    "ID": "broker-incomplete-uploads",
    "Status": "Enabled",
    "Filter": {"Prefix": ""},
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2},
}
END_OLD_STAGING = {
    "ID": "broker-old-staging",
    "Status": "Enabled",
    "Filter": {"Prefix": STAGING},
    "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
}
END_OLD_MEDIA = {
    "ID": "broker-old-media",
    "Status": "Enabled",
    "Filter": {"Prefix": MEDIA},
    "NoncurrentVersionExpiration": {"NoncurrentDays": 30},
}
ARCHIVES = frozenset({"DEEP_ARCHIVE", "GLACIER"})
"""The storage classes whose objects cannot be read until they are restored."""
ACTIONS = frozenset(
    {
        "AbortIncompleteMultipartUpload",
        "Expiration",
        "NoncurrentVersionExpiration",
        "NoncurrentVersionTransitions",
        "Transitions",
    }
)
USUAL_SMALLEST = "all_storage_classes_128K"
"""The smallest size of objects that S3 transitions, unless the configuration names another."""
_TERRAFORM = "aws_s3_bucket_lifecycle_configuration.media"

Rule = dict[str, Any]
Tags = Sequence[tuple[str, str]]


async def removal(patient: Patient) -> list[Finding]:
    """Check versioning and the lifecycle rules together, because they depend on each other."""
    try:
        versioning = (await patient.ask("get_bucket_versioning")).get("Status", "")
    except Refused as refused:
        return [unreadable("versioning", refused, patient, "get-bucket-versioning"), skip("lifecycle", "see above")]
    try:
        response = await patient.ask("get_bucket_lifecycle_configuration")
        rules, smallest = response.get("Rules", []), response.get("TransitionDefaultMinimumObjectSize", USUAL_SMALLEST)
    except Refused as refused:
        if refused.code != "NoSuchLifecycleConfiguration":
            finding = unreadable("lifecycle", refused, patient, "get-bucket-lifecycle-configuration")
            return [finding, skip("versioning", "its rules cannot be read") if versioning else _unversioned()]
        rules, smallest = [], USUAL_SMALLEST
    return judged(versioning, rules, patient, smallest)


def judged(versioning: str, rules: list[Rule], patient: Patient, smallest: str = USUAL_SMALLEST) -> list[Finding]:
    """Return the findings for these rules. One command fixes them all, because it replaces the rules together.

    It keeps the other rules, and what else a rule does that would remove media.
    """
    enabled = [rule for rule in rules if rule["Status"] == "Enabled"]
    clears = [rule for rule in enabled if "Days" in rule.get("Expiration", {}) and _covers(rule, STAGING)]
    aborts = [rule for rule in enabled if "AbortIncompleteMultipartUpload" in rule and _covers(rule, STAGING)]
    ends = [rule for rule in enabled if _ends_old_versions(rule)]
    growing = [prefix for prefix in (STAGING, MEDIA) if not any(_covers(rule, prefix) for rule in ends)]
    own_tags = patient.deployment.bucket.properties.tags
    deadly = [rule for rule in enabled if _expires_media(rule, own_tags)]
    archiving = [rule for rule in enabled if _archives(rule) and _selects(rule, MEDIA, own_tags)]
    resumable_seconds = patient.deployment.resumable_seconds
    days = max(STAGING_DAYS, resumable_seconds // DAY_SECONDS + 1)
    early = [rule for rule in enabled if _expires_staging(rule, own_tags) and _seconds(rule) <= resumable_seconds]
    lacking: list[Rule] = (
        [] if any(rule not in deadly for rule in clears) else [{**CLEAR_STAGING, "Expiration": {"Days": days}}]
    )
    lacking += [] if aborts else [ABORT_LEFTOVERS]
    if versioning:
        lacking += [END_OLD_STAGING] if STAGING in growing else []
        lacking += [END_OLD_MEDIA] if MEDIA in growing else []
    added = {rule["ID"] for rule in lacking}  # ids are unique; a disabled rule may have one of these
    kept = [
        _fixed(_without_archive(rule) if rule in archiving else rule, rule in deadly, days if rule in early else None)
        for rule in rules
        if rule.get("ID") not in added
    ]
    fix = patient.s3api(
        "put-bucket-lifecycle-configuration",
        *(() if smallest == USUAL_SMALLEST else ("--transition-default-minimum-object-size", smallest)),
        document=("--lifecycle-configuration", {"Rules": [rule for rule in kept if rule.keys() & ACTIONS] + lacking}),
    )
    return [
        _versioning(versioning, growing, fix),
        _staging(clears, early, fix, resumable_seconds),
        _leftovers(aborts, fix),
        _media(deadly, archiving, fix),
    ]


def _unversioned() -> Finding:
    return ok("versioning", "off: deleted objects are gone")


def _versioning(status: str, growing: list[str], fix: str) -> Finding:
    if not status:
        return _unversioned()
    if not growing:
        return ok("versioning", f"{status}, and old versions expire")
    return fail(
        "versioning",
        f"{status}, but old versions under {' and '.join(growing)} are kept forever",
        cause="no enabled rule has a NoncurrentVersionExpiration for all of them, so a deletion only hides objects",
        fix=fix,
        terraform=f"{_TERRAFORM} (versioning = true, noncurrent_days)",
    )


def _staging(clears: list[Rule], early: list[Rule], fix: str, resumable_seconds: int) -> Finding:
    if clears and early:
        days = min(rule["Expiration"]["Days"] for rule in early)
        return warn(
            "lifecycle",
            f"objects under {STAGING} may expire after {_in_days(days)}, before a resumable upload does",
            cause=f"BROKER_RESUMABLE_SECONDS is {resumable_seconds}: its first parts may be gone before its last",
            fix=fix,
            terraform=f"{_TERRAFORM} (staging_days)",
        )
    if clears:
        days = min(rule["Expiration"]["Days"] for rule in clears)
        return ok("lifecycle", f"objects under {STAGING} expire after {_in_days(days)}")
    return fail(
        "lifecycle",
        f"no rule expires objects under {STAGING}",
        cause="an upload that the broker never learns of, or cannot purge, is kept and charged",
        fix=fix,
        terraform=f"{_TERRAFORM} (staging_days)",
    )


def _in_days(days: int) -> str:
    return f"{days} day{'s' if days > 1 else ''}"


def _leftovers(aborts: list[Rule], fix: str) -> Finding:
    if aborts:
        return ok("incomplete uploads", "are aborted")
    return fail(
        "incomplete uploads",
        "are kept forever",
        cause="no enabled rule has an AbortIncompleteMultipartUpload; their parts are charged, but never listed",
        fix=fix,
        terraform=_TERRAFORM,
    )


def _media(deadly: list[Rule], archiving: list[Rule], fix: str) -> Finding:
    if deadly:
        return fail(
            "kept media",
            f"the rule {_names(deadly)} expires objects under {MEDIA}",
            cause="S3 would remove media that the broker reports as ready",
            fix=fix,
            terraform=_TERRAFORM,
        )
    if archiving:
        return fail(
            "kept media",
            f"the rule {_names(archiving)} archives objects under {MEDIA}",
            cause="S3 answers 403 InvalidObjectState to each link to an archived object until it is restored; "
            "GLACIER_IR and INTELLIGENT_TIERING serve links at once",
            fix=fix,
            terraform=_TERRAFORM,
        )
    return ok("kept media", f"no rule expires or archives objects under {MEDIA}")


def _names(rules: list[Rule]) -> str:
    return ", ".join(str(rule.get("ID", "without an id")) for rule in rules)


def _filter(rule: Rule) -> dict[str, Any]:
    criteria = rule.get("Filter", {})
    combined: dict[str, Any] = criteria.get("And", criteria)
    return combined


def _prefix(rule: Rule) -> str:
    return str(rule.get("Prefix") or _filter(rule).get("Prefix") or "")


def _is_narrow(rule: Rule) -> bool:
    """Return whether a rule selects objects by size or tags too, and so not all under its prefix."""
    return bool(_filter(rule).keys() - {"Prefix"})


def _covers(rule: Rule, prefix: str) -> bool:
    """Return whether a rule selects every object under `prefix`."""
    return prefix.startswith(_prefix(rule)) and not _is_narrow(rule)


def _expires_staging(rule: Rule, own_tags: Tags) -> bool:
    """Return whether a rule expires objects of the broker under the staging prefix, after days."""
    return "Days" in rule.get("Expiration", {}) and _selects(rule, STAGING, own_tags)


def _seconds(rule: Rule) -> int:
    """Return how long a rule keeps an object at least; S3 rounds up to the next midnight."""
    return int(rule["Expiration"]["Days"]) * DAY_SECONDS


def _fixed(rule: Rule, is_deadly: bool, days: int | None) -> Rule:
    """Return a rule that expires no media, and staging objects after `days` at the earliest, unless that is None."""
    if is_deadly:
        return _without_expiration(rule)
    return rule if days is None else {**rule, "Expiration": {**rule["Expiration"], "Days": days}}


def _without_expiration(rule: Rule) -> Rule:
    """Return a rule that removes no current object any more."""
    left = {name: value for name, value in rule["Expiration"].items() if name not in {"Days", "Date"}}
    others = {name: value for name, value in rule.items() if name != "Expiration"}
    return others | ({"Expiration": left} if left else {})


def _without_archive(rule: Rule) -> Rule:
    """Return a rule that archives no current object any more."""
    left = [transition for transition in rule["Transitions"] if transition["StorageClass"] not in ARCHIVES]
    others = {name: value for name, value in rule.items() if name != "Transitions"}
    return others | ({"Transitions": left} if left else {})


def _archives(rule: Rule) -> bool:
    """Return whether a rule moves current objects to a storage class that cannot be read at once."""
    return any(transition["StorageClass"] in ARCHIVES for transition in rule.get("Transitions", []))


def _ends_old_versions(rule: Rule) -> bool:
    """Return whether a rule expires all noncurrent versions; some rules keep the newest ones for ever."""
    expiration = rule.get("NoncurrentVersionExpiration", {})
    return "NoncurrentDays" in expiration and not expiration.get("NewerNoncurrentVersions")


def _expires_media(rule: Rule, own_tags: Tags) -> bool:
    """Return whether a rule removes current objects of promoted media."""
    return bool({"Days", "Date"} & rule.get("Expiration", {}).keys()) and _selects(rule, MEDIA, own_tags)


def _selects(rule: Rule, prefix: str, own_tags: Tags) -> bool:
    """Return whether a rule selects some objects of the broker under `prefix`; they have all of `own_tags`."""
    criteria = _filter(rule)
    tags = criteria.get("Tags", [criteria["Tag"]] if "Tag" in criteria else [])
    are_own = all((tag["Key"], tag["Value"]) in own_tags for tag in tags)
    selected = _prefix(rule)
    return are_own and (selected.startswith(prefix) or prefix.startswith(selected))
