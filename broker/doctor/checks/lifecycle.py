"""What the bucket removes by itself: it must clear the staging prefix, and never touch what was promoted.

Source: Amazon S3 User Guide, "Lifecycle configuration elements".
"""

from typing import Any

from broker.doctor.checks.configuration import unreadable
from broker.doctor.deployment import Patient, Refused
from broker.doctor.finding import Finding, fail, ok, skip

STAGING = "staging/"
MEDIA = "media/"
STAGING_DAYS = 1
"""As infra/terraform has it. S3 rounds up to the next midnight (UTC); the policies of a media, renewals and the default
grace included, end within two hours, so that the sweep comes long before."""
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
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
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
_TERRAFORM = "aws_s3_bucket_lifecycle_configuration.media"

Rule = dict[str, Any]


async def removal(patient: Patient) -> list[Finding]:
    """Look at versioning and at the lifecycle rules, which depend on each other."""
    try:
        versioning = (await patient.ask("get_bucket_versioning")).get("Status", "")
    except Refused as refused:
        return [unreadable("versioning", refused, patient, "get-bucket-versioning"), skip("lifecycle", "see above")]
    try:
        rules = (await patient.ask("get_bucket_lifecycle_configuration")).get("Rules", [])
    except Refused as refused:
        if refused.code != "NoSuchLifecycleConfiguration":
            found = unreadable("lifecycle", refused, patient, "get-bucket-lifecycle-configuration")
            return [found, skip("versioning", "its rules cannot be read")] if versioning else [found, _unversioned()]
        rules = []
    return judged(versioning, rules, patient)


def judged(versioning: str, rules: list[Rule], patient: Patient) -> list[Finding]:
    """Return what is found of these rules. All are mended by one command, which replaces the rules together."""
    enabled = [rule for rule in rules if rule["Status"] == "Enabled"]
    clears = [rule for rule in enabled if "Days" in rule.get("Expiration", {}) and _covers(rule, STAGING)]
    aborts = [rule for rule in enabled if "AbortIncompleteMultipartUpload" in rule and _covers(rule, STAGING)]
    ends = [rule for rule in enabled if "NoncurrentVersionExpiration" in rule]
    growing = [prefix for prefix in (STAGING, MEDIA) if not any(_covers(rule, prefix) for rule in ends)]
    deadly = [rule for rule in enabled if _expires_media(rule)]
    lacking: list[Rule] = [] if clears else [CLEAR_STAGING]
    lacking += [] if aborts else [ABORT_LEFTOVERS]
    if versioning:
        lacking += [END_OLD_STAGING] if STAGING in growing else []
        lacking += [END_OLD_MEDIA] if MEDIA in growing else []
    mend = patient.s3api(
        "put-bucket-lifecycle-configuration",
        document=("--lifecycle-configuration", {"Rules": [rule for rule in rules if rule not in deadly] + lacking}),
    )
    return [
        _versioning(versioning, growing, mend),
        _staging(clears, mend),
        _leftovers(aborts, mend),
        _media(deadly, mend),
    ]


def _unversioned() -> Finding:
    return ok("versioning", "off: what is deleted is gone")


def _versioning(status: str, growing: list[str], mend: str) -> Finding:
    if not status:
        return _unversioned()
    if not growing:
        return ok("versioning", f"{status}, and old versions expire")
    return fail(
        "versioning",
        f"{status}, but old versions under {' and '.join(growing)} stay for ever",
        cause="no enabled rule has a NoncurrentVersionExpiration for them, so that a deletion only hides objects",
        mend=mend,
        terraform=f"{_TERRAFORM} (versioning = true, noncurrent_days)",
    )


def _staging(clears: list[Rule], mend: str) -> Finding:
    if clears:
        days = min(rule["Expiration"]["Days"] for rule in clears)
        return ok("lifecycle", f"what stays under {STAGING} expires after {days} day{'s' if days > 1 else ''}")
    return fail(
        "lifecycle",
        f"nothing expires what stays under {STAGING}",
        cause="an upload that the broker never hears of, or cannot purge, is kept and paid for",
        mend=mend,
        terraform=f"{_TERRAFORM} (staging_days)",
    )


def _leftovers(aborts: list[Rule], mend: str) -> Finding:
    if aborts:
        return ok("incomplete uploads", "are aborted")
    return fail(
        "incomplete uploads",
        "are kept for ever",
        cause="no enabled rule has an AbortIncompleteMultipartUpload; parts are paid for and shown by no listing",
        mend=mend,
        terraform=_TERRAFORM,
    )


def _media(deadly: list[Rule], mend: str) -> Finding:
    if not deadly:
        return ok("kept media", f"no rule expires what is under {MEDIA}")
    names = ", ".join(str(rule.get("ID", "without an id")) for rule in deadly)
    return fail(
        "kept media",
        f"the rule {names} expires what is under {MEDIA}",
        cause="the broker says that these media are ready, and S3 removes them",
        mend=mend,
        terraform=_TERRAFORM,
    )


def _filter(rule: Rule) -> dict[str, Any]:
    said = rule.get("Filter", {})
    narrowed: dict[str, Any] = said.get("And", said)
    return narrowed


def _prefix(rule: Rule) -> str:
    return str(rule.get("Prefix") or _filter(rule).get("Prefix") or "")


def _is_narrow(rule: Rule) -> bool:
    """Tell that a rule is for some objects of its prefix alone, by their size or tags; the broker tags none."""
    return bool(_filter(rule).keys() - {"Prefix"})


def _covers(rule: Rule, prefix: str) -> bool:
    """Tell that a rule is for everything under `prefix`."""
    return prefix.startswith(_prefix(rule)) and not _is_narrow(rule)


def _expires_media(rule: Rule) -> bool:
    """Tell that a rule removes current objects under the prefix of what was promoted, at least some of them."""
    removes = bool({"Days", "Date"} & rule.get("Expiration", {}).keys())
    tagged = {"Tag", "Tags"} & _filter(rule).keys()
    prefix = _prefix(rule)
    return removes and not tagged and (prefix.startswith(MEDIA) or MEDIA.startswith(prefix))
