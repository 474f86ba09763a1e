"""The condition keys that AWS sends for each action that the module allows. An Allow on any other key never matches.

Source: Service Authorization Reference, "Actions, resources, and condition keys for Amazon S3", and the same for "AWS
Key Management Service" and "Amazon SQS". Keys of `aws:`, which are global, are not listed.
"""

from collections.abc import Iterator

from tests.infra.plan import Statement

_OF_EVERY_S3_ACTION = frozenset(
    {
        "s3:AccessPointNetworkOrigin",
        "s3:DataAccessPointAccount",
        "s3:DataAccessPointArn",
        "s3:ResourceAccount",
        "s3:TlsVersion",
        "s3:authType",
        "s3:signatureAge",
        "s3:signatureversion",
        "s3:x-amz-content-sha256",
    }
)
_OF_A_LISTING = frozenset({"s3:delimiter", "s3:max-keys", "s3:prefix"})
_OF_KMS = frozenset(
    {
        "kms:CallerAccount",
        "kms:EncryptionAlgorithm",
        "kms:EncryptionContext:",  # followed by a key of the caller's choice
        "kms:EncryptionContextKeys",
        "kms:RequestAlias",
        "kms:ViaService",
    }
)
_OWN_KEYS = {
    "s3:ListBucket": _OF_EVERY_S3_ACTION | _OF_A_LISTING,
    "s3:ListBucketVersions": _OF_EVERY_S3_ACTION | _OF_A_LISTING,
    "s3:ListBucketMultipartUploads": _OF_EVERY_S3_ACTION,
    "s3:GetObject": _OF_EVERY_S3_ACTION | {"s3:ExistingObjectTag/", "s3:if-match", "s3:if-none-match"},
    "kms:Decrypt": _OF_KMS,
    "kms:GenerateDataKey": _OF_KMS,
}
"""The keys of each action that a condition on such keys may stand beside; SQS has none."""


def unsent(statement: Statement) -> Iterator[tuple[str, str]]:
    """Find the keys of an Allow that AWS does not send for one of its actions, as pairs of key and action."""
    for _, key, _ in sorted(statement.condition):
        if not key.startswith("aws:"):
            yield from ((key, action) for action in sorted(statement.actions) if not _is_sent(key, action))


def _is_sent(key: str, action: str) -> bool:
    known = _OWN_KEYS.get(action, frozenset())
    return key in known or any(key.startswith(prefix) for prefix in known if prefix.endswith((":", "/")))
