"""The expected result of the module: each statement of each policy, and the settings that keep bucket and queue closed.

It repeats the module by hand, so that a change on only one side fails a test.
"""

from dataclasses import dataclass
from typing import Any

from tests.infra.account import ACCOUNT, REGION
from tests.infra.plan import Statement, resources


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """The options of the module that a plan was made with."""

    bucket: str
    kms: bool = False
    versioning: bool = False
    cloudfront: bool = False

    @property
    def arn(self) -> str:
        """Return the bucket's ARN."""
        return f"arn:aws:s3:::{self.bucket}"

    @property
    def queue(self) -> str:
        """Return the queue's ARN."""
        return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{self.bucket}-uploads"


def _statement(
    sid: str, actions: str, to: list[str], *conditions: tuple[str, str, str], deny: bool = False, principal: str = ""
) -> Statement:
    return Statement(
        sid=sid,
        effect="Deny" if deny else "Allow",
        principal="*" if deny else principal,
        actions=frozenset(actions.split()),
        resources=frozenset(to),
        condition=frozenset((operator, key, tuple(values.split())) for operator, key, values in conditions),
    )


def expected_statements(plan: dict[str, Any], variant: Variant) -> dict[str, set[Statement]]:
    """Return the expected statements by address; ARNs that AWS assigns are read from the plan."""
    settle = _settle(plan, variant)
    staging, own = f"{variant.arn}/staging/*", ("StringEquals", "aws:ResourceAccount", ACCOUNT)
    forms = _statement("SignForms", "s3:PutObject", [staging], own)
    events = _statement(
        "ReceiveEvents",
        "sqs:ReceiveMessage sqs:DeleteMessage sqs:ChangeMessageVisibility",
        [variant.queue],
        own,
    )
    expected = {
        "aws_s3_bucket_policy.media": _bucket(plan, variant),
        "aws_sqs_queue.uploads": _queue(variant),
        "aws_iam_policy.signer": settle | {forms},
        "aws_iam_policy.worker": settle | {events},
        "aws_iam_policy.doctor": _doctor(variant, own),
    }
    if variant.kms:
        expected["aws_kms_key.media[0]"] = _key(variant)
    return expected


def _settle(plan: dict[str, Any], variant: Variant) -> set[Statement]:
    staging, media = f"{variant.arn}/staging/*", f"{variant.arn}/media/*"
    own = ("StringEquals", "aws:ResourceAccount", ACCOUNT)
    purge = "s3:DeleteObject s3:DeleteObjectVersion" if variant.versioning else "s3:DeleteObject"
    statements = {
        _statement("ReadObjects", "s3:GetObject", [staging, media], own),
        _statement("Promote", "s3:PutObject", [media], own),
        _statement("Purge", purge, [staging, media], own),
        _statement("TellAbsence", "s3:ListBucket", [variant.arn], own),
        _statement("Compose", "s3:AbortMultipartUpload s3:ListMultipartUploadParts", [media], own),
        _statement("FindCompositions", "s3:ListBucketMultipartUploads", [variant.arn], own),
    }
    if variant.versioning:
        prefixes = ("StringLike", "s3:prefix", "media/* staging/*")
        statements.add(_statement("FindVersions", "s3:ListBucketVersions", [variant.arn], own, prefixes))
    if variant.kms:
        through_s3 = ("StringEquals", "kms:ViaService", f"s3.{REGION}.amazonaws.com")
        this_bucket = ("StringEquals", "kms:EncryptionContext:aws:s3:arn", variant.arn)
        key = resources(plan)["aws_kms_key.media[0]"]["arn"]
        statements.add(_statement("UseKey", "kms:Decrypt kms:GenerateDataKey", [key], through_s3, this_bucket))
    return statements


def _bucket(plan: dict[str, Any], variant: Variant) -> set[Statement]:
    every, objects = [variant.arn, f"{variant.arn}/*"], [f"{variant.arn}/*"]
    staging, media = [f"{variant.arn}/staging/*"], [f"{variant.arn}/media/*"]
    link, form, header = "REST-QUERY-STRING", "POST", "REST-HEADER"
    customer_key = "s3:x-amz-server-side-encryption-customer-algorithm"
    table = (
        ("DenyWithoutTls", "s3:*", every, ("Bool", "aws:SecureTransport", "false")),
        ("DenyOldTls", "s3:*", every, ("NumericLessThan", "s3:TlsVersion", "1.2")),
        ("DenyOtherSignatures", "s3:*", every, ("StringNotEquals", "s3:signatureversion", "AWS4-HMAC-SHA256")),
        ("DenyLinksToStaging", "s3:GetObject", staging, ("StringEquals", "s3:authType", link)),
        ("DenyAllButFormsIntoStaging", "s3:PutObject", staging, ("StringEquals", "s3:authType", f"{header} {link}")),
        ("DenyFormsAndLinksIntoMedia", "s3:PutObject", media, ("StringEquals", "s3:authType", f"{form} {link}")),
        ("DenyCustomerKeys", "s3:PutObject", objects, ("Null", customer_key, "false")),
    )
    statements = {_statement(sid, actions, to, condition, deny=True) for sid, actions, to, condition in table}
    if variant.cloudfront:
        this_one = ("StringEquals", "aws:SourceArn", resources(plan)["aws_cloudfront_distribution.media[0]"]["arn"])
        service = "Service:cloudfront.amazonaws.com"
        statements.add(_statement("AllowCloudFront", "s3:GetObject", media, this_one, principal=service))
    return statements


def _queue(variant: Variant) -> set[Statement]:
    return {
        _statement(
            "AllowEventsOfTheBucket",
            "sqs:SendMessage",
            [variant.queue],
            ("ArnEquals", "aws:SourceArn", variant.arn),
            ("StringEquals", "aws:SourceAccount", ACCOUNT),
            principal="Service:s3.amazonaws.com",
        ),
        _statement("DenyWithoutTls", "sqs:*", [variant.queue], ("Bool", "aws:SecureTransport", "false"), deny=True),
    }


def _doctor(variant: Variant, own: tuple[str, str, str]) -> set[Statement]:
    settings = (
        "s3:GetBucketCORS s3:GetBucketNotification s3:GetBucketOwnershipControls s3:GetBucketPolicy "
        "s3:GetBucketPublicAccessBlock s3:GetBucketVersioning s3:GetEncryptionConfiguration "
        "s3:GetLifecycleConfiguration"
    )
    return {
        _statement("ReadBucketSettings", settings, [variant.arn], own),
        _statement("ReadQueueSettings", "sqs:GetQueueAttributes", [variant.queue, f"{variant.queue}-dead"], own),
    }


def _key(variant: Variant) -> set[Statement]:
    statements = {_statement("AllowAccount", "kms:*", ["*"], principal=f"AWS:arn:aws:iam::{ACCOUNT}:root")}
    if variant.cloudfront:
        distributions = ("ArnLike", "aws:SourceArn", f"arn:aws:cloudfront::{ACCOUNT}:distribution/*")
        this_bucket = ("StringEquals", "kms:EncryptionContext:aws:s3:arn", variant.arn)
        service = "Service:cloudfront.amazonaws.com"
        statements.add(
            _statement("AllowCloudFront", "kms:Decrypt", ["*"], distributions, this_bucket, principal=service)
        )
    return statements


def expected_settings(variant: Variant) -> dict[str, dict[str, Any]]:
    """Return, by address, the required value at each path; a number in a path is a list index."""
    lifecycle = "aws_s3_bucket_lifecycle_configuration.media"
    blocks = ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets")
    settings: dict[str, dict[str, Any]] = {
        "aws_s3_bucket.media": {"bucket": variant.bucket, "force_destroy": False},
        "aws_s3_bucket_public_access_block.media": dict.fromkeys(blocks, True),
        "aws_s3_bucket_ownership_controls.media": {"rule.0.object_ownership": "BucketOwnerEnforced"},
        "aws_s3_bucket_server_side_encryption_configuration.media": {
            "rule.0.apply_server_side_encryption_by_default.0.sse_algorithm": "aws:kms" if variant.kms else "AES256",
            "rule.0.bucket_key_enabled": variant.kms,
        },
        "aws_s3_bucket_cors_configuration.media": {
            "cors_rule.0.allowed_origins": ["https://app.example"],
            "cors_rule.0.allowed_methods": ["GET", "HEAD", "POST"],
            "cors_rule.0.expose_headers": ["ETag", "Location"],
        },
        lifecycle: {
            "rule.0.status": "Enabled",
            "rule.0.filter.0.prefix": "staging/",
            "rule.0.expiration.0.days": 2,
            "rule.1.status": "Enabled",
            "rule.1.filter.0.prefix": "",
            "rule.1.abort_incomplete_multipart_upload.0.days_after_initiation": 2,
        },
        "aws_s3_bucket_notification.media": {
            "queue.0.queue_arn": variant.queue,
            "queue.0.events": ["s3:ObjectCreated:*"],
            "queue.0.filter_prefix": "staging/",
        },
        "aws_sqs_queue.uploads": {
            "name": f"{variant.bucket}-uploads",
            "redrive_policy": f'{{"deadLetterTargetArn":"{variant.queue}-dead","maxReceiveCount":5}}',
            "sqs_managed_sse_enabled": True,
            "visibility_timeout_seconds": 180,
        },
        "aws_sqs_queue.dead": {
            "redrive_allow_policy": f'{{"redrivePermission":"byQueue","sourceQueueArns":["{variant.queue}"]}}',
            "message_retention_seconds": 1_209_600,
            "sqs_managed_sse_enabled": True,
        },
        "aws_cloudwatch_metric_alarm.oldest_message": {
            "metric_name": "ApproximateAgeOfOldestMessage",
            "dimensions": {"QueueName": f"{variant.bucket}-uploads"},
            "threshold": 300,
        },
        "aws_cloudwatch_metric_alarm.dead_letters": {
            "metric_name": "ApproximateNumberOfMessagesVisible",
            "dimensions": {"QueueName": f"{variant.bucket}-uploads-dead"},
            "threshold": 0,
        },
    }
    if variant.versioning:
        settings["aws_s3_bucket_versioning.media[0]"] = {"versioning_configuration.0.status": "Enabled"}
        settings[lifecycle] |= {
            "rule.0.noncurrent_version_expiration.0.noncurrent_days": 1,
            "rule.2.filter.0.prefix": "media/",
            "rule.2.noncurrent_version_expiration.0.noncurrent_days": 30,
            "rule.2.expiration": [],
            "rule.3.expiration.0.expired_object_delete_marker": True,
        }
    if variant.kms:
        settings["aws_kms_key.media[0]"] = {"enable_key_rotation": True}
    if variant.cloudfront:
        settings["aws_cloudfront_origin_access_control.media[0]"] = {
            "origin_access_control_origin_type": "s3",
            "signing_behavior": "always",
            "signing_protocol": "sigv4",
        }
        settings["aws_cloudfront_distribution.media[0]"] = {
            "default_cache_behavior.0.viewer_protocol_policy": "https-only",
            "default_cache_behavior.0.allowed_methods": ["GET", "HEAD"],
        }
    return settings
