"""Buckets: their creation and deletion, and the documents that configure them.

moto keeps most documents; those that it would misread, or fail on, are checked before. A configuration that would
change what S3 does, and that nothing here carries out, is refused.
Source: Amazon S3 API Reference, the operations on buckets.
"""

import logging
import re
from collections.abc import Callable

from starlette.responses import Response

from broker.dev.s3 import notifications
from broker.dev.s3.cors import read_rules
from broker.dev.s3.documents import children, parse_xml, text
from broker.dev.s3.errors import S3Error, invalid_argument
from broker.dev.s3.other_services import passed_on
from broker.dev.s3.payload import Payload
from broker.dev.s3.plane import Plane
from broker.dev.s3.request import Request
from broker.dev.s3.services import Services
from broker.dev.s3.tagging import valid_key, valid_value

log = logging.getLogger(__name__)

CONFIGURABLE = frozenset(
    {
        "acl",
        "cors",
        "encryption",
        "lifecycle",
        "notification",
        "ownershipControls",
        "policy",
        "publicAccessBlock",
        "tagging",
        "versioning",
    }
)
READABLE = CONFIGURABLE | {
    "accelerate",
    "location",
    "logging",
    "object-lock",
    "policyStatus",
    "replication",
    "requestPayment",
    "website",
}
UNSERVED = frozenset(
    {
        "abac",
        "analytics",
        "intelligent-tiering",
        "inventory",
        "metadataConfiguration",
        "metadataInventoryTable",
        "metadataJournalTable",
        "metadataTable",
        "metrics",
        "session",
    }
)
_NOT_CARRIED_OUT = ("acl", "lifecycle", "policy")
_OWNERSHIPS = frozenset({"BucketOwnerEnforced", "BucketOwnerPreferred", "ObjectWriter"})
_BUCKET_TAGS_MAX = 50


def subresource(request: Request) -> str | None:
    """Return the part of a bucket's configuration that a request names, or None. Refuses the unserved parts."""
    names = request.params.keys() & (READABLE | UNSERVED)
    for name in names:
        if name in UNSERVED or (request.method == "PUT" and name not in CONFIGURABLE):
            raise S3Error("NotImplemented", Header=name)
    return min(names, default=None)


async def configure(plane: Plane, request: Request, payload: Payload) -> Response:
    """Create, delete or describe a bucket, or read or change its configuration."""
    services, bucket, name = plane.services, request.bucket, subresource(request)
    if bucket and name is None:
        if request.method == "PUT":
            _check_creation(services, request)
            if services.exists(bucket):
                if services.region == "us-east-1":
                    # There, and only there, AWS lets the owner create a bucket again.
                    return Response(b"", 200, {"location": f"/{bucket}"})
                raise S3Error("BucketAlreadyOwnedByYou", BucketName=bucket)
        if request.method == "DELETE" and not plane.store.is_empty(bucket):
            if services.versioning(bucket) is None:
                raise S3Error("BucketNotEmpty", BucketName=bucket)
            every = "The bucket you tried to delete is not empty. You must delete all versions in the bucket."
            raise S3Error("BucketNotEmpty", every, BucketName=bucket)
    body = await payload.read()
    if name is not None:
        services.bucket(bucket)
        if request.method == "PUT":
            _check(services, request, name, body)
    answer = await services.configure(request.method, bucket, name, request.query, dict(request.headers), body)
    if request.method == "DELETE" and name is None and answer.status < 300:
        plane.uploads.remove_bucket(bucket)
    if request.method == "PUT" and name in _NOT_CARRIED_OUT and answer.status < 300:
        log.warning("the %s of %s is kept, but not carried out", name, bucket)
    return passed_on(answer)


def _check_creation(services: Services, request: Request) -> None:
    services.check_name(request.bucket)
    ownership = request.headers.get("x-amz-object-ownership")
    if ownership is not None and ownership not in _OWNERSHIPS:
        raise invalid_argument(
            f"Invalid x-amz-object-ownership header: {ownership}", "x-amz-object-ownership", ownership
        )
    has_acl = request.headers.get("x-amz-acl", "private") != "private" or any(
        name.startswith("x-amz-grant-") for name in request.headers
    )
    if has_acl and (ownership or "BucketOwnerEnforced") == "BucketOwnerEnforced":
        raise S3Error(
            "InvalidBucketAclWithObjectOwnership",
            "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting",
        )


def _check(services: Services, request: Request, name: str, body: bytes) -> None:
    if name == "notification":
        skips = request.headers.get("x-amz-skip-destination-validation", "").lower() == "true"
        notifications.check(services, body, validate_destinations=not skips)
    elif name == "acl" and not services.allows_acls(request.bucket):
        raise S3Error("AccessControlListNotSupported")
    elif (check := _CHECKS.get(name)) is not None:
        check(body)


def _check_versioning(body: bytes) -> None:
    root = parse_xml(body, "VersioningConfiguration")
    status = text(root, "Status", "")
    if not status:
        raise S3Error("IllegalVersioningConfigurationException", "The Versioning element must be specified")
    if status not in ("Enabled", "Suspended"):
        raise S3Error("MalformedXML")
    if text(root, "MfaDelete", "Disabled") != "Disabled":
        raise S3Error("NotImplemented", Header="MfaDelete")


def _check_tagging(body: bytes) -> None:
    names: set[str] = set()
    for tag_set in children(parse_xml(body, "Tagging"), "TagSet"):
        for tag in children(tag_set, "Tag"):
            name, value = text(tag, "Key"), text(tag, "Value")
            if name in names:
                raise S3Error("InvalidTag", "Cannot provide multiple Tags with the same key", TagKey=name)
            if name.startswith("aws:"):
                raise S3Error("InvalidTag", "System tags cannot be added/updated by requester", TagKey=name)
            if not valid_key(name):
                raise S3Error("InvalidTag", "The TagKey you have provided is invalid", TagKey=name)
            if not valid_value(value):
                raise S3Error("InvalidTag", "The TagValue you have provided is invalid", TagKey=name, TagValue=value)
            names.add(name)
    if len(names) > _BUCKET_TAGS_MAX:
        raise S3Error("BadRequest", f"Bucket tag count cannot be greater than {_BUCKET_TAGS_MAX}")


def _check_ownership(body: bytes) -> None:
    rules = list(children(parse_xml(body, "OwnershipControls"), "Rule"))
    if len(rules) != 1 or text(rules[0], "ObjectOwnership") not in _OWNERSHIPS:
        raise S3Error("MalformedXML")


def _check_encryption(body: bytes) -> None:
    rules = list(children(parse_xml(body, "ServerSideEncryptionConfiguration"), "Rule"))
    if len(rules) != 1:
        raise S3Error("MalformedXML")
    for default in children(rules[0], "ApplyServerSideEncryptionByDefault"):
        algorithm = text(default, "SSEAlgorithm")
        if not re.fullmatch(r"AES256|aws:kms(:dsse)?", algorithm):
            raise S3Error("MalformedXML")
        if algorithm == "AES256" and text(default, "KMSMasterKeyID", ""):
            raise S3Error(
                "InvalidArgument",
                "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms or aws:kms:dsse",
                ArgumentName="ApplyServerSideEncryptionByDefault",
            )


_CHECKS: dict[str, Callable[[bytes], object]] = {
    "cors": read_rules,
    "encryption": _check_encryption,
    "ownershipControls": _check_ownership,
    "tagging": _check_tagging,
    "versioning": _check_versioning,
}
