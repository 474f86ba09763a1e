"""One S3 bucket: sign, head, promote, purge; every S3 operation of the verbs.

S3's errors become domain errors here. Only a 404 means "not there"; any other error means that S3 is unavailable or
refuses the broker. Nothing here blocks the event loop: botocore runs on a pool of threads, and signing does not use it.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

import boto3
import structlog
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import ClientError

from broker import metrics
from broker.aws.cloudfront import Distribution
from broker.aws.credentials import NO_ANSWER, CredentialSource, client_keys
from broker.domain.media import Arrived
from broker.domain.policy import Promise, presign_post
from broker.domain.sigv4 import Address, Credentials, presign_get
from broker.errors import CredentialsExpired, StorageRefused, StorageUnavailable

T = TypeVar("T")

log = structlog.get_logger()

MAX_ATTEMPTS = 3
"""How often a call is tried, where S3 is silent or says that it is busy."""
ABSENT_CODES = frozenset({"NoSuchKey", "NoSuchVersion"})
BUSY_CODES = frozenset({"InternalError", "OperationAborted", "RequestTimeout", "ServiceUnavailable", "SlowDown"})
"""Errors of single keys that a later attempt may not meet (Amazon S3 API Reference, "Error responses")."""
CHECKSUMS = ("SHA256", "CRC64NVME", "CRC32C", "CRC32", "SHA1")
"""The checksum algorithms of S3, in the order of our preference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketConfig:
    """The address of the bucket, and the options of its client."""

    name: str
    region: str
    endpoint_url: str | None = None
    public_endpoint_url: str | None = None
    path_style: bool = False
    dual_stack: bool = False
    fips: bool = False
    is_aws: bool = True
    credentials: Credentials | None = None
    timeout_seconds: float = 10
    pool_size: int = 32
    cloudfront: tuple[str, str, str] | None = None
    """The distribution's address, its key's id, and the private key in PEM form, if links go through CloudFront."""


class Bucket:
    """A client of one bucket. Create it off the event loop, because botocore loads its service model then."""

    def __init__(self, config: BucketConfig) -> None:
        self.config = config
        session = boto3.Session()
        self._client = s3_client(session, config, config.endpoint_url)
        self._address = Address.of(_form_address(session, config))
        self.form_url = self._address.url
        """The URL to which forms are posted, with a trailing slash (upload libraries append the key to it)."""
        self._threads = ThreadPoolExecutor(config.pool_size, thread_name_prefix="s3")
        self._distribution = Distribution(*config.cloudfront) if config.cloudfront else None
        self._credentials = CredentialSource(session, config.credentials, self._threads)

    def credentials(self, now: datetime) -> Coroutine[Any, Any, Credentials]:
        """Return keys that are valid at `now`. Raises CredentialsExpired."""
        return self._credentials.current(now)

    def sign_upload(self, promise: Promise, keys: Credentials, *, now: datetime, expires_in: int) -> dict[str, str]:
        """Return the form's fields; their policy expires `expires_in` seconds after `now`."""
        return presign_post(promise, keys, now=now, region=self.config.region, expires_in=expires_in)

    async def playback_link(
        self, key: str, requested_seconds: int, *, now: datetime, overrides: dict[str, str]
    ) -> tuple[str, int]:
        """Return a link to `key` and its lifetime in seconds.

        The lifetime is shorter than requested if the keys expire sooner. Raises CredentialsExpired.
        """
        if self._distribution is not None:
            expires_at = now + timedelta(seconds=requested_seconds)
            return self._distribution.sign(key, expires_at=expires_at, overrides=overrides), requested_seconds
        keys = await self.credentials(now)
        expires_in = keys.lifetime(requested_seconds, now)
        if expires_in < 1:
            raise CredentialsExpired
        return self.sign_playback(key, keys, now=now, expires_in=expires_in, overrides=overrides), expires_in

    def sign_playback(
        self, key: str, keys: Credentials, *, now: datetime, expires_in: int, overrides: dict[str, str]
    ) -> str:
        """Return a presigned GET URL of S3 for `key`; it expires `expires_in` seconds after `now`."""
        return presign_get(
            keys,
            self._address,
            key,
            now=now,
            region=self.config.region,
            expires_in=expires_in,
            overrides=overrides,
        )

    async def internal_link(self, key: str, *, expires_in: int) -> str:
        """Return a GET URL for `key` at the broker's own S3 endpoint, valid for `expires_in` seconds.

        Raises StorageUnavailable if there are no credentials.
        """
        return await self._run(self._internal_link, key, expires_in)

    async def head(self, key: str) -> Arrived | None:
        """Return the object under `key`, or None if S3 answers 404 and the bucket exists.

        Raises StorageUnavailable or StorageRefused.
        """
        return await self._run(self._head, key)

    async def promote(self, source: str, target: str, judged: Arrived) -> bool:
        """Copy `source` to `target` and return whether `target` is now the judged object.

        If not, the source was overwritten or is gone, and `target` holds nothing or another object. The source's ETag
        is a condition of the copy. Not every store honors it, so the answer to the copy, which names what was copied,
        is compared with what was judged. A HEAD of `target` decides only if the answer leaves that open.
        """
        return await self._run(self._promote, source, target, judged)

    async def purge(self, *keys: str) -> bool:
        """Remove the objects under at most 1,000 `keys` with their versions; absent ones are no error.

        One turn is bounded: it removes at most 1,000 versions of each key. Return whether nothing is left.
        """
        return await self._run(self._purge, keys)

    async def check(self) -> None:
        """Raise StorageUnavailable or StorageRefused unless the bucket answers."""
        await self._run(self._check)

    def close(self) -> None:
        """Wait for the running calls, then release the threads and connections."""
        self._threads.shutdown(wait=True)
        self._client.close()

    async def _run(self, call: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

    def _call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        with metrics.S3_SECONDS.labels(operation).time():
            try:
                response: dict[str, Any] = getattr(self._client, operation)(Bucket=self.config.name, **parameters)
            except ClientError as error:
                raise _translated(operation, error) from error
            except NO_ANSWER as error:
                _note_failure(operation, type(error).__name__)
                raise StorageUnavailable(operation=operation, cause=type(error).__name__) from error
        return response

    def _internal_link(self, key: str, expires_in: int) -> str:
        parameters = {"Bucket": self.config.name, "Key": key}
        try:
            link: str = self._client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=expires_in)
        except (ClientError, *NO_ANSWER) as error:
            raise StorageUnavailable(operation="get_object", cause=type(error).__name__) from error
        return link

    def _head(self, key: str) -> Arrived | None:
        try:
            response = self._call("head_object", Key=key, ChecksumMode="ENABLED")
        except _Absent:
            # The response to a HEAD has no body that would tell an absent bucket from an absent object.
            self._check()
            return None
        return _arrived(response)

    def _promote(self, source: str, target: str, judged: Arrived) -> bool:
        with suppress(_Absent, _PreconditionFailed):
            answer = self._call(
                "copy_object",
                Key=target,
                CopySource={"Bucket": self.config.name, "Key": source},
                CopySourceIfMatch=f'"{judged.etag}"',
                IfNoneMatch="*",
                MetadataDirective="REPLACE",
                ContentType=judged.content_type,
            )
            result = {**answer, **answer.get("CopyObjectResult", {})}
            if "ETag" in result:
                copied = _arrived({**result, "ContentLength": judged.size, "ContentType": judged.content_type})
                if copied.etag_is_md5 and judged.etag_is_md5:
                    return copied.etag == judged.etag
        promoted = self._head(target)
        return promoted is not None and promoted.same_object(judged)

    def _purge(self, keys: Sequence[str]) -> bool:
        if len(keys) == 1:
            versioned = keys if "VersionId" in self._delete(keys[0]) else ()
        else:
            deleted = self._delete_many([{"Key": key} for key in keys])
            versioned = [entry["Key"] for entry in deleted if "DeleteMarkerVersionId" in entry]
        purged = [self._purge_versions(key) for key in versioned]
        return all(purged)

    def _delete(self, key: str) -> dict[str, Any]:
        try:
            return self._call("delete_object", Key=key)
        except _Absent:
            return {}

    def _delete_many(self, objects: Sequence[dict[str, str]]) -> Sequence[dict[str, Any]]:
        """Delete up to 1,000 objects or versions and return an entry for each. Raises what `purge` does."""
        if not objects:
            return ()
        answer = self._call("delete_objects", Delete={"Objects": objects})
        for error in answer.get("Errors", ()):
            code = str(error.get("Code", "Unknown"))
            if code not in ABSENT_CODES:
                _note_failure("delete_objects", code)
                refused = code not in BUSY_CODES
                raise (
                    StorageRefused(operation="delete_objects", code=code)
                    if refused
                    else StorageUnavailable(operation="delete_objects", cause=code)
                )
        deleted: Sequence[dict[str, Any]] = answer.get("Deleted", ())
        return deleted

    def _purge_versions(self, key: str) -> bool:
        """Remove up to 1,000 versions of one key; return whether nothing is left."""
        page = self._call("list_object_versions", Prefix=key)
        versions = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
        of_key = [version for version in versions if version["Key"] == key]
        self._delete_many([{"Key": key, "VersionId": version["VersionId"]} for version in of_key])
        # Keys that continue this one sort after it, so a listing that has reached one has passed all versions.
        return len(of_key) < len(versions) or not page.get("IsTruncated", False)

    def _check(self) -> None:
        try:
            self._call("head_bucket")
        except _Absent:
            raise StorageRefused(operation="head_bucket", code="NoSuchBucket") from None


class _Absent(Exception):
    """S3 answered 404."""


class _PreconditionFailed(Exception):
    """S3 answered 412, because a condition of the request does not hold."""


def _translated(operation: str, error: ClientError) -> Exception:
    """Return the domain error for an error of S3, or of STS, from which keys are fetched first."""
    if xform_name(error.operation_name) != operation:
        return StorageUnavailable(operation=operation, cause=error.operation_name)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = str(error.response.get("Error", {}).get("Code", "Unknown"))
    if status == 404 and code != "NoSuchBucket":
        return _Absent()
    if status == 412:
        return _PreconditionFailed()
    _note_failure(operation, code)
    if status in {0, 200, 409, 429} or status >= 500:
        return StorageUnavailable(operation=operation, cause=code)
    return StorageRefused(operation=operation, code=code)


def _note_failure(operation: str, cause: str) -> None:
    """Count and log a failure by S3's code or the error's class only, because messages may hold keys."""
    metrics.S3_ERRORS.labels(operation, cause).inc()
    log.warning("s3 failed", operation=operation, cause=cause)


def _arrived(head: dict[str, Any]) -> Arrived:
    checksum = next((f"{name}:{head[f'Checksum{name}']}" for name in CHECKSUMS if f"Checksum{name}" in head), None)
    if head.get("ChecksumType", "FULL_OBJECT") != "FULL_OBJECT":
        checksum = None
    opaque_etag = head.get("ServerSideEncryption", "AES256") != "AES256" or "SSECustomerAlgorithm" in head
    return Arrived(
        size=head["ContentLength"],
        etag=head["ETag"].strip('"'),
        content_type=head.get("ContentType", "binary/octet-stream"),
        checksum=checksum,
        etag_is_md5=not opaque_etag,
    )


def s3_client(session: boto3.Session, config: BucketConfig, endpoint_url: str | None) -> Any:
    """Return an S3 client; every option whose default differs between releases is set."""
    return session.client(
        "s3",
        region_name=config.region,
        endpoint_url=endpoint_url,
        **client_keys(config.credentials),
        config=Config(
            signature_version="s3v4",
            s3={
                "addressing_style": "path" if config.path_style else "virtual",
                "us_east_1_regional_endpoint": "regional",
            },
            use_dualstack_endpoint=config.dual_stack,
            use_fips_endpoint=config.fips,
            connect_timeout=min(config.timeout_seconds, 5),
            read_timeout=config.timeout_seconds,
            retries={"mode": "standard", "total_max_attempts": MAX_ATTEMPTS},
            max_pool_connections=config.pool_size,
            request_checksum_calculation="when_supported" if config.is_aws else "when_required",
            response_checksum_validation="when_supported" if config.is_aws else "when_required",
        ),
    )


def _form_address(session: boto3.Session, config: BucketConfig) -> str:
    """Return the URL to which clients post, as botocore's endpoint rules resolve it for this bucket."""
    placeholder = replace(config, credentials=Credentials("resolves", "an-address"))
    client = s3_client(session, placeholder, config.public_endpoint_url or config.endpoint_url)
    try:
        address: str = client.generate_presigned_post(config.name, "key")["url"]
    finally:
        client.close()
    return address
