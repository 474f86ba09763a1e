"""The checks of the bucket's configuration: public access, ownership, encryption, transport. Lifecycle: `lifecycle.py`.

Sources: Amazon S3 User Guide, "Blocking public access to your Amazon S3 storage", "Controlling ownership of objects",
"Protecting data with encryption".
"""

import json
from typing import Any

from broker.doctor.deployment import Patient, Refused
from broker.doctor.finding import Finding, fail, ok, warn

_BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")


def unreadable(check: str, refused: Refused, patient: Patient, command: str) -> Finding:
    """Return a finding with the reason why a setting cannot be read."""
    if refused.is_unknown_operation:
        return warn(
            check,
            f"this server has no such setting ({refused.code})",
            cause="it is not AWS S3, and lacks this operation",
            fix=f"{patient.s3api(command)}  # look up what the server offers instead",
        )
    if refused.is_denied:
        return warn(
            check,
            f"cannot be read ({refused.code})",
            cause="the keys lack the right to read it, which the broker itself does not need",
            fix=f"{patient.s3api(command)}  # with an administrator's keys",
            terraform="output doctor_policy_arn",
        )
    return fail(
        check,
        f"cannot be read ({refused.code})",
        cause="S3 failed, or its response is not valid",
        fix=patient.s3api(command),
    )


def _setting(response: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a setting in a response. Raises Refused if the response does not have it."""
    value: dict[str, Any] = response.get(name, {})
    if not value:
        # Ceph's gateway ignores an unknown subresource, and lists the bucket.
        raise Refused("it answers something else", 501)
    return value


async def public_access(patient: Patient) -> Finding:
    """Check that Block Public Access is fully on."""
    check = "public access"
    try:
        response = await patient.ask("get_public_access_block")
        blocks = _setting(response, "PublicAccessBlockConfiguration")
    except Refused as refused:
        if refused.code != "NoSuchPublicAccessBlockConfiguration":
            return unreadable(check, refused, patient, "get-public-access-block")
        blocks = {}
    missing = [name for name in _BLOCKS if not blocks.get(name)]
    if not missing:
        return ok(check, "all four kinds are blocked")
    return fail(
        check,
        f"not blocked: {', '.join(missing)}",
        cause="an ACL or a bucket policy could make every upload public",
        fix=patient.s3api(
            "put-public-access-block", document=("--public-access-block-configuration", dict.fromkeys(_BLOCKS, True))
        ),
        terraform="aws_s3_bucket_public_access_block.media",
    )


async def ownership(patient: Patient) -> Finding:
    """Check that ACLs are off."""
    check = "ownership"
    try:
        response = await patient.ask("get_bucket_ownership_controls")
        owners = [rule["ObjectOwnership"] for rule in _setting(response, "OwnershipControls")["Rules"]]
    except Refused as refused:
        if refused.code != "OwnershipControlsNotFoundError":
            return unreadable(check, refused, patient, "get-bucket-ownership-controls")
        owners = []
    if owners == ["BucketOwnerEnforced"]:
        return ok(check, "BucketOwnerEnforced: ACLs are off")
    return fail(
        check,
        ", ".join(owners) or "none is set",
        cause="ACLs apply, so that the `acl` field of a form could make an object public",
        fix=patient.s3api(
            "put-bucket-ownership-controls",
            document=("--ownership-controls", {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}),
        ),
        terraform="aws_s3_bucket_ownership_controls.media",
    )


async def encryption(patient: Patient) -> Finding:
    """Check the default encryption of objects."""
    check = "encryption"
    try:
        response = await patient.ask("get_bucket_encryption")
        rules: list[dict[str, Any]] = _setting(response, "ServerSideEncryptionConfiguration")["Rules"]
    except Refused as refused:
        if refused.code != "ServerSideEncryptionConfigurationNotFoundError":
            return unreadable(check, refused, patient, "get-bucket-encryption")
        rules = []
    defaults = [rule["ApplyServerSideEncryptionByDefault"] for rule in rules] if rules else []
    algorithm = defaults[0]["SSEAlgorithm"] if defaults else ""
    if not algorithm:
        return fail(
            check,
            "none by default",
            cause="the bucket's default encryption is not set",
            fix=_encrypt(patient, {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}),
            terraform="aws_s3_bucket_server_side_encryption_configuration.media",
        )
    if algorithm == "aws:kms" and not rules[0].get("BucketKeyEnabled"):
        return warn(
            check,
            "aws:kms without a bucket key",
            cause="each upload, HEAD, copy and playback costs a request to KMS, which is charged and rate-limited",
            fix=_encrypt(patient, {**rules[0], "BucketKeyEnabled": True}),
            terraform='encryption = "sse-kms"',
        )
    return ok(check, algorithm)


def _encrypt(patient: Patient, rule: dict[str, Any]) -> str:
    return patient.s3api(
        "put-bucket-encryption", document=("--server-side-encryption-configuration", {"Rules": [rule]})
    )


async def transport(patient: Patient) -> Finding:
    """Check that the bucket's policy refuses requests without TLS."""
    check = "transport"
    try:
        document = json.loads((await patient.ask("get_bucket_policy"))["Policy"])
    except Refused as refused:
        if refused.code != "NoSuchBucketPolicy":
            return unreadable(check, refused, patient, "get-bucket-policy")
        document = {"Version": "2012-10-17", "Statement": []}
    if any(_denies_plain_text(statement) for statement in statements(document)):
        return ok(check, "the bucket's policy refuses requests without TLS")
    statement = {
        "Sid": "DenyWithoutTls",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [patient.arn, f"{patient.arn}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    return warn(
        check,
        "the bucket's policy does not require TLS",
        cause="a form or link whose URL was changed to http would send the video and its signature unencrypted",
        fix=patient.s3api(
            "put-bucket-policy", document=("--policy", {**document, "Statement": [*statements(document), statement]})
        ),
        terraform="aws_s3_bucket_policy.media",
    )


def statements(policy: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the statements of a policy document, of which one may stand alone, without a list."""
    statement = policy.get("Statement", [])
    return statement if isinstance(statement, list) else [statement]


def _denies_plain_text(statement: dict[str, Any]) -> bool:
    secure = statement.get("Condition", {}).get("Bool", {}).get("aws:SecureTransport", "")
    return statement.get("Effect") == "Deny" and str(secure).lower() in {"false", "['false']"}
