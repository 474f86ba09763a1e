"""Features of S3 that the embedded S3 does not have: a request that asks for one is refused, never half served.

Object Lock cannot be switched on here, so that objects answer as AWS does for a bucket without it.
"""

import re
from collections.abc import Mapping

from moto.core.models import DEFAULT_ACCOUNT_ID
from starlette.responses import Response

from broker.dev.s3.errors import S3Error, invalid_argument
from broker.dev.s3.payload import Payload
from broker.dev.s3.plane import Plane
from broker.dev.s3.request import Request

_HEADERS = re.compile(
    r"x-amz-(copy-source-)?server-side-encryption-customer-.+"
    r"|x-amz-write-offset-bytes|x-amz-rename-source.*|x-amz-bucket-object-lock-enabled"
)
_OBJECT_LOCK = re.compile(r"x-amz-object-lock-.+")
_ENCRYPTION = "x-amz-server-side-encryption"
_ENCRYPTIONS = frozenset({"AES256", "aws:kms", "aws:kms:dsse"})
_OWNERS = ("x-amz-expected-bucket-owner", "x-amz-source-expected-bucket-owner")


def refuse_unserved(headers: Mapping[str, str]) -> None:
    """Refuse headers, or fields of a form, that ask for a feature which is not served here."""
    for name, value in headers.items():
        if _HEADERS.fullmatch(name) and value.lower() != "false":
            raise S3Error("NotImplemented", Header=name)
        if _OBJECT_LOCK.fullmatch(name):
            raise _without_object_lock()
        if name in _OWNERS:
            _check_owner(value)
    if (encryption := headers.get(_ENCRYPTION, "AES256")) not in _ENCRYPTIONS:
        raise invalid_argument("The encryption method specified is not supported", _ENCRYPTION, encryption)


async def object_lock(plane: Plane, request: Request, payload: Payload) -> Response:
    """Refuse to read or set the retention or the legal hold of an object, which no bucket offers."""
    plane.find(request.bucket, request.key, request.params.get("versionId"), method=request.method)
    raise _without_object_lock()


def _without_object_lock() -> S3Error:
    return S3Error("InvalidRequest", "Bucket is missing Object Lock Configuration")


def _check_owner(account: str) -> None:
    if not re.fullmatch(r"[0-9]{12}", account):
        raise S3Error(
            "InvalidBucketOwnerAWSAccountID",
            f"The value of the expected bucket owner parameter must be an AWS Account ID... [{account}]",
        )
    if account != DEFAULT_ACCOUNT_ID:
        raise S3Error("AccessDenied")
