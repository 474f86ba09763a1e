"""The object plane: the stores that all operations share, and the steps of finding, storing and deleting a version."""

import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from broker.dev.s3 import events, facts
from broker.dev.s3.auth import Authenticator
from broker.dev.s3.clock import Clock, http_date
from broker.dev.s3.conditional import check_delete, check_write
from broker.dev.s3.errors import S3Error, invalid_argument
from broker.dev.s3.objects import NULL_VERSION, ObjectPart, ObjectStore, ObjectVersion
from broker.dev.s3.parts import Upload, Uploads, no_such_upload
from broker.dev.s3.request import Request
from broker.dev.s3.services import Services

_OWNERS_ACL = "bucket-owner-full-control"
_CANNED_ACLS = frozenset(
    {
        _OWNERS_ACL,
        "authenticated-read",
        "aws-exec-read",
        "bucket-owner-read",
        "log-delivery-write",
        "private",
        "public-read",
        "public-read-write",
    }
)
OBJECT_BYTES_MAX = 5 * 1024**3
ARCHIVES = frozenset({"GLACIER", "DEEP_ARCHIVE"})


@dataclass(frozen=True, slots=True)
class Stored:
    """Bytes on disk that are ready to become an object. `etag` is unquoted."""

    path: Path
    size: int
    etag: str
    checksums: dict[str, str]
    checksum_type: str = "FULL_OBJECT"
    parts: list[ObjectPart] = field(default_factory=list)
    upload_id: str = ""


@dataclass(frozen=True, slots=True)
class Plane:
    """The object plane of one server."""

    store: ObjectStore
    services: Services
    clock: Clock
    authenticator: Authenticator
    uploads: Uploads

    def find(self, bucket: str, key: str, version_id: str | None = None, *, method: str = "GET") -> ObjectVersion:
        """Return the version that a request names, or refuse as S3 does if it is absent or deleted."""
        self.services.bucket(bucket)
        if version_id is not None:
            version = self._find_version(bucket, key, version_id)
            if version is None:
                raise S3Error("NoSuchVersion", Key=key, VersionId=version_id)
            if version.delete_marker:
                raise DeleteMarkerError(method, version)
            return version
        latest = self.store.latest(bucket, key)
        if latest is None:
            raise S3Error("NoSuchKey", Key=key)
        if latest.delete_marker:
            marker = {"x-amz-delete-marker": "true", "x-amz-version-id": latest.version_id}
            raise S3Error("NoSuchKey", headers=marker, Key=key)
        return latest

    def _find_version(self, bucket: str, key: str, version_id: str) -> ObjectVersion | None:
        """Return one version, or None if it was removed. Refuses an id that S3 never gave out."""
        if not version_id:
            raise invalid_argument("Version id cannot be the empty string", "versionId")
        version = self.store.version(bucket, key, version_id)
        if version is None and version_id != NULL_VERSION:
            unversioned = self.services.versioning(bucket) is None
            if unversioned or not is_version_id(version_id):
                raise InvalidVersionError(version_id)
        return version

    def find_upload(self, request: Request) -> Upload:
        """Return the multipart upload under way that a request names, or refuse with `NoSuchUpload`."""
        self.services.bucket(request.bucket)
        upload_id = request.params["uploadId"]
        upload = self.uploads.find(request.bucket, request.key, upload_id)
        if upload is None:
            raise no_such_upload(upload_id)
        return upload

    def check_acl(self, bucket: str, fields: Mapping[str, str]) -> None:
        """Refuse an ACL or a grant where the bucket's owner owns every object (BucketOwnerEnforced)."""
        acl = fields.get("x-amz-acl", fields.get("acl", _OWNERS_ACL))
        grants = [name for name in fields if name.startswith("x-amz-grant-")]
        if acl not in _CANNED_ACLS:
            raise invalid_argument("", "x-amz-acl", acl)
        if grants and "x-amz-acl" in fields:
            raise S3Error("InvalidRequest", "Specifying both Canned ACLs and Header Grants is not allowed")
        if (acl != _OWNERS_ACL or grants) and not self.services.allows_acls(bucket):
            raise S3Error("AccessControlListNotSupported")

    def put(
        self,
        event: str,
        bucket: str,
        key: str,
        stored: Stored,
        fields: Mapping[str, str],
        *,
        headers: dict[str, str] | None = None,
        metadata: dict[str, str] | None = None,
        tags: dict[str, str] | None = None,
    ) -> ObjectVersion:
        """Store an object if the write's preconditions hold, and publish the event.

        The check and the change happen in one turn of the event loop: no other write comes between.
        """
        self.check_acl(bucket, fields)
        check_write(fields, self.store.current(bucket, key), key)
        versioning = self.services.versioning(bucket)
        kept = facts.object_headers(fields) if headers is None else headers
        is_opaque = facts.has_opaque_etag(kept) and not stored.parts
        version = ObjectVersion(
            key=key,
            version_id=new_version_id() if versioning == "Enabled" else NULL_VERSION,
            sequence=self.store.next_sequence(),
            modified_at=self.clock.now().isoformat(),
            size=stored.size,
            etag=secrets.token_hex(16) if is_opaque else stored.etag,
            headers=kept,
            metadata=facts.metadata(fields) if metadata is None else metadata,
            checksums=stored.checksums,
            checksum_type=stored.checksum_type,
            parts=stored.parts,
            upload_id=stored.upload_id,
            storage_class=fields.get("x-amz-storage-class", "STANDARD"),
            tags=tags or {},
        )
        self.store.add(bucket, version, stored.path, versioned=versioning == "Enabled")
        events.publish(self.services, self.clock, event, bucket, version)
        return version

    def delete(self, bucket: str, key: str, version_id: str | None, fields: Mapping[str, str]) -> dict[str, str]:
        """Delete an object or one version, and return the headers of the response.

        Deleting an absent object succeeds. With versioning a delete marker hides the older versions.
        """
        versioning = self.services.versioning(bucket)
        if version_id is not None:
            version = self._find_version(bucket, key, version_id)
            check_delete(fields, version, key)
            if version is not None:
                self.store.remove(bucket, version)
                events.publish(self.services, self.clock, "ObjectRemoved:Delete", bucket, version)
            marker = {"x-amz-delete-marker": "true"} if version is not None and version.delete_marker else {}
            return {"x-amz-version-id": version_id, **marker}
        current = self.store.current(bucket, key)
        check_delete(fields, current, key)
        if versioning is None:
            if current is not None:
                self.store.remove(bucket, current)
                events.publish(self.services, self.clock, "ObjectRemoved:Delete", bucket, current)
            return {}
        marker_version = ObjectVersion(
            key=key,
            version_id=new_version_id() if versioning == "Enabled" else NULL_VERSION,
            sequence=self.store.next_sequence(),
            modified_at=self.clock.now().isoformat(),
            delete_marker=True,
        )
        self.store.add(bucket, marker_version, None, versioned=versioning == "Enabled")
        events.publish(self.services, self.clock, "ObjectRemoved:DeleteMarkerCreated", bucket, marker_version)
        return {"x-amz-version-id": marker_version.version_id, "x-amz-delete-marker": "true"}


class InvalidVersionError(S3Error):
    """400: a version id that S3 never gave out."""

    def __init__(self, version_id: str) -> None:
        super().__init__(
            "InvalidArgument", "Invalid version id specified", ArgumentName="versionId", ArgumentValue=version_id
        )


class DeleteMarkerError(S3Error):
    """405: the version is a delete marker, which can only be deleted."""

    def __init__(self, method: str, marker: ObjectVersion) -> None:
        super().__init__(
            "MethodNotAllowed",
            headers={
                "x-amz-delete-marker": "true",
                "x-amz-version-id": marker.version_id,
                "last-modified": http_date(marker.modified),
                "allow": "DELETE",
            },
            Method=method,
            ResourceType="DeleteMarker",
        )


def check_restored(version: ObjectVersion, message: str | None = None) -> None:
    """Refuse to read an object in a storage class from which it must be restored first; nothing here restores one."""
    if version.storage_class in ARCHIVES:
        raise S3Error("InvalidObjectState", message, StorageClass=version.storage_class)


def new_version_id() -> str:
    """Return a version id: 32 characters, of which the last ones prove that S3 gave it out."""
    random = secrets.token_bytes(18)
    return urlsafe_b64encode(random + _proof(random)).decode()


def is_version_id(text: str) -> bool:
    """Return whether `new_version_id` may have returned a text."""
    if not re.fullmatch(r"[\w-]{32}", text, re.ASCII):
        return False
    data = urlsafe_b64decode(text)
    return _proof(data[:18]) == data[18:]


def _proof(random: bytes) -> bytes:
    return sha256(random).digest()[:6]
