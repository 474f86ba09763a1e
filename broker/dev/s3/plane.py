"""What every operation on objects works on, and the two steps they share: find a version, store a version."""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from broker.dev.s3 import events, facts
from broker.dev.s3.auth import Authenticator
from broker.dev.s3.clock import Clock
from broker.dev.s3.conditional import check_write
from broker.dev.s3.errors import S3Error, invalid_argument
from broker.dev.s3.objects import NULL_VERSION, ObjectPart, ObjectStore, ObjectVersion
from broker.dev.s3.parts import Upload, Uploads, no_such_upload
from broker.dev.s3.request import Request
from broker.dev.s3.services import Services

_OWNERS_ACL = "bucket-owner-full-control"
OBJECT_BYTES_MAX = 5 * 1024**3


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

    def find(self, bucket: str, key: str, version_id: str | None = None) -> ObjectVersion:
        """Return the version that a read names, or refuse as S3 does where it is not or was deleted."""
        self.services.bucket(bucket)
        if version_id is not None:
            check_version_id(version_id)
            version = self.store.version(bucket, key, version_id)
            if version is None:
                raise S3Error("NoSuchVersion", Key=key, VersionId=version_id)
            if version.delete_marker:
                raise S3Error(
                    "MethodNotAllowed",
                    headers={"x-amz-delete-marker": "true", "allow": "DELETE"},
                    ResourceType="DeleteMarker",
                )
            return version
        latest = self.store.latest(bucket, key)
        if latest is None:
            raise S3Error("NoSuchKey", Key=key)
        if latest.delete_marker:
            marker = {"x-amz-delete-marker": "true", "x-amz-version-id": latest.version_id}
            raise S3Error("NoSuchKey", headers=marker, Key=key)
        return latest

    def find_upload(self, request: Request) -> Upload:
        """Return the multipart upload under way that a request names, or refuse with `NoSuchUpload`."""
        self.services.bucket(request.bucket)
        upload_id = request.params["uploadId"]
        upload = self.uploads.find(request.bucket, request.key, upload_id)
        if upload is None:
            raise no_such_upload(upload_id)
        return upload

    def check_acl(self, bucket: str, said: Mapping[str, str]) -> None:
        """Refuse an ACL or a grant where the bucket's owner owns every object (BucketOwnerEnforced)."""
        acl = said.get("x-amz-acl", said.get("acl", _OWNERS_ACL))
        grants = [name for name in said if name.startswith("x-amz-grant-")]
        if (acl != _OWNERS_ACL or grants) and not self.services.allows_acls(bucket):
            raise S3Error("AccessControlListNotSupported")

    def put(
        self,
        event: str,
        bucket: str,
        key: str,
        stored: Stored,
        said: Mapping[str, str],
        *,
        headers: dict[str, str] | None = None,
        metadata: dict[str, str] | None = None,
        tags: dict[str, str] | None = None,
    ) -> ObjectVersion:
        """Store an object if the write's preconditions hold now, and tell the queues.

        The check and the change happen in one turn of the event loop: no other write comes between.
        """
        self.check_acl(bucket, said)
        check_write(said, self.store.current(bucket, key), key)
        versioning = self.services.versioning(bucket)
        version = ObjectVersion(
            key=key,
            version_id=new_version_id() if versioning == "Enabled" else NULL_VERSION,
            sequence=self.store.next_sequence(),
            modified_at=self.clock.now().isoformat(),
            size=stored.size,
            etag=stored.etag,
            headers=facts.object_headers(said) if headers is None else headers,
            metadata=facts.metadata(said) if metadata is None else metadata,
            checksums=stored.checksums,
            checksum_type=stored.checksum_type,
            parts=stored.parts,
            upload_id=stored.upload_id,
            storage_class=said.get("x-amz-storage-class", "STANDARD"),
            tags=tags or {},
        )
        self.store.add(bucket, version, stored.path, versioned=versioning == "Enabled")
        events.publish(self.services, self.clock, event, bucket, version)
        return version

    def delete(self, bucket: str, key: str, version_id: str | None, said: Mapping[str, str]) -> dict[str, str]:
        """Delete an object or one version; returns the headers that say what was done.

        Deleting what is not there succeeds. With versioning a delete marker hides the older versions.
        """
        versioning = self.services.versioning(bucket)
        if version_id is not None:
            check_version_id(version_id)
            version = self.store.version(bucket, key, version_id)
            check_write(said, version, key)
            if version is not None:
                self.store.remove(bucket, version)
                events.publish(self.services, self.clock, "ObjectRemoved:Delete", bucket, version)
            marker = {"x-amz-delete-marker": "true"} if version is not None and version.delete_marker else {}
            return {"x-amz-version-id": version_id, **marker}
        current = self.store.current(bucket, key)
        check_write(said, current, key)
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


def check_version_id(version_id: str) -> None:
    """Refuse what cannot be the id of a version: neither `null` nor of the form in which ids are given."""
    if not version_id:
        raise invalid_argument("Version id cannot be the empty string", "versionId")
    if version_id != NULL_VERSION and not re.fullmatch(r"[\w-]{32}", version_id, re.ASCII):
        raise invalid_argument("Invalid version id specified", "versionId", version_id)


def new_version_id() -> str:
    """Return a version id: 32 characters that mean nothing."""
    return secrets.token_urlsafe(24)
