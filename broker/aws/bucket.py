"""One S3 bucket: signatures, HEAD requests and promotions; `multipart` and `deletion` hold the other operations.

S3's answers become objects and errors of the domain here. Only a 404 is "not there"; anything else means that S3 is
unavailable, or refuses the broker itself.
"""

import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import boto3
import certifi
from botocore.session import get_session

from broker.aws.client import Absent, Answer, PreconditionFailed, S3Client
from broker.aws.cloudfront import Distribution
from broker.aws.credentials import CredentialSource
from broker.aws.deletion import Deletion
from broker.aws.endpoint import bucket_url
from broker.aws.multipart import Multipart, is_opaque
from broker.aws.shared import Shared
from broker.domain.media import Arrived
from broker.domain.s3.policy import Promise, presign_post
from broker.domain.s3.properties import ObjectProperties
from broker.domain.s3.sigv4 import Address, Credentials, SignedRead, presign_get, signed_headers, uri_encode
from broker.errors import CredentialsExpired, StorageRefused, StorageUnavailable

CHECKSUMS = ("SHA256", "CRC64NVME", "CRC32C", "CRC32", "SHA1")
"""The checksum algorithms of S3, the preferred one first."""


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
    pool_size: int = 256
    cloudfront: tuple[str, str, str] | None = None
    """The distribution's address, its key's id, and the private key in PEM form, if links go through CloudFront."""
    properties: ObjectProperties = ObjectProperties()  # noqa: RUF009 immutable, so it can be shared


class Bucket:
    """A client of one bucket, for one event loop. Create it off the loop, because botocore reads files then."""

    def __init__(self, config: BucketConfig) -> None:
        self.config = config
        self._address = Address.of(_url(config, config.public_endpoint_url or config.endpoint_url))
        self._internal_address = Address.of(_url(config, config.endpoint_url))
        self.form_url = self._address.url
        """The URL to which forms are posted, with a trailing slash (upload libraries append the key to it)."""
        self._distribution = Distribution(*config.cloudfront) if config.cloudfront else None
        self._form_fields = config.properties.form_fields()
        self._final_headers = config.properties.final_headers()
        self._checks = Shared(self.check)
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="credentials")
        session = get_session()
        self._credentials = CredentialSource(boto3.Session(botocore_session=session), config.credentials, self._threads)
        self._client = S3Client(
            self._internal_address,
            self.credentials,
            self._credentials.renew,
            region=config.region,
            timeout_seconds=config.timeout_seconds,
            pool_size=config.pool_size,
            authorities=_trusting(session.get_config_variable("ca_bundle") or certifi.where()),
        )
        self.multipart = Multipart(config.name, self._call, self._final_headers)
        self.deletion = Deletion(self._call, self._client.failure)

    async def credentials(self, now: datetime) -> Credentials:
        """Return keys that are valid at `now`. Raises CredentialsExpired."""
        return await self._credentials.current(now)

    def sign_upload(self, promise: Promise, keys: Credentials, *, now: datetime, expires_in: int) -> dict[str, str]:
        """Return the form's fields; their policy expires `expires_in` seconds after `now`."""
        return presign_post(
            promise, keys, now=now, region=self.config.region, expires_in=expires_in, extra=self._form_fields
        )

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

    async def signed_read(self, key: str, etag: str) -> SignedRead:
        """Return a request for the object with that ETag, at the address where the broker itself reaches S3.

        It is no link, because the bucket's policy may deny links to staging objects. Raises StorageUnavailable if there
        are no credentials.
        """
        now = self._client.clock()
        try:
            keys = await self.credentials(now)
        except CredentialsExpired as error:
            raise StorageUnavailable(operation="get_object", cause="CredentialsExpired") from error
        address, region, condition = self._internal_address, self.config.region, {"if-match": f'"{etag}"'}
        headers = signed_headers(keys, address, "GET", key, now=now, region=region, headers=condition)
        return SignedRead(address.url + uri_encode(key, safe="/"), headers)

    async def head(self, key: str) -> Arrived | None:
        """Return what is stored under `key`, or None if S3 answers 404 and the bucket is there.

        Raises StorageUnavailable and StorageRefused, as every call to S3 does.
        """
        try:
            answer = await self._call("head_object", "HEAD", key, headers={"x-amz-checksum-mode": "ENABLED"})
        except Absent:
            # The answer to a HEAD has no body that would tell an absent bucket from an absent object.
            await self._checks.join()
            return None
        return _arrived(answer)

    async def promote(self, source: str, target: str, judged: Arrived) -> bool:
        """Copy `source` to `target` and return whether `target` is now the judged object.

        If not, the source was overwritten or is gone, and `target` holds nothing or another object. The source's ETag
        is a condition of the copy. Not every store honors it, so the answer to the copy, which names what was copied,
        is compared with what was judged. A HEAD of `target` decides only if the answer leaves that open.
        """
        with suppress(Absent, PreconditionFailed):
            answer = await self._call(
                "copy_object",
                "PUT",
                target,
                headers={
                    "content-type": judged.content_type,
                    "if-none-match": "*",
                    "x-amz-copy-source": uri_encode(f"{self.config.name}/{source}", safe="/"),
                    "x-amz-copy-source-if-match": f'"{judged.etag}"',
                    "x-amz-metadata-directive": "REPLACE",
                    **({"x-amz-tagging-directive": "REPLACE"} if self.config.properties.tags else {}),
                    **self._final_headers,
                },
                has_result=True,
                is_copy=True,
            )
            outcome = _is_copy_of(judged, answer)
            if outcome is not None:
                return outcome
        promoted = await self.head(target)
        return promoted is not None and promoted.same_object(judged)

    async def check(self) -> None:
        """Raise StorageUnavailable or StorageRefused unless the bucket answers."""
        try:
            await self._call("head_bucket", "HEAD")
        except Absent:
            raise StorageRefused(operation="head_bucket", code="NoSuchBucket") from None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()
        self._threads.shutdown(wait=False)

    async def _call(self, operation: str, method: str, key: str = "", **options: Any) -> Answer:
        return await self._client.call(operation, method, key, **options)


def _is_copy_of(judged: Arrived, answer: Answer) -> bool | None:
    """Return whether the answer to a copy is about the judged bytes, or None if it does not say.

    Source: Amazon S3 API Reference, "CopyObject", CopyObjectResult.
    """
    result = answer.xml()
    algorithm, _, value = (judged.checksum or "").partition(":")
    is_comparable = algorithm and result.findtext("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT"
    checksum = result.findtext(f"Checksum{algorithm}") if is_comparable else None
    if checksum is not None and checksum != value:
        return False
    etag = (result.findtext("ETag") or "").strip('"')
    if etag and judged.etag_is_md5 and not is_opaque(answer):
        return etag == judged.etag
    return True if checksum is not None else None


def _arrived(answer: Answer) -> Arrived:
    headers = answer.headers
    names = (name for name in CHECKSUMS if f"x-amz-checksum-{name.lower()}" in headers)
    checksum = next((f"{name}:{headers[f'x-amz-checksum-{name.lower()}']}" for name in names), None)
    if headers.get("x-amz-checksum-type", "FULL_OBJECT") != "FULL_OBJECT":
        checksum = None
    try:
        size, etag = int(headers["content-length"]), headers["etag"].strip('"')
    except (KeyError, ValueError) as error:
        raise StorageUnavailable(operation="head_object", cause="InvalidAnswer") from error
    return Arrived(
        size=size,
        etag=etag,
        content_type=headers.get("content-type", "binary/octet-stream"),
        checksum=checksum,
        etag_is_md5=not is_opaque(answer),
    )


@cache
def _trusting(authorities: str) -> ssl.SSLContext:
    """Return a context that trusts the authorities in a file. It takes 18 ms, a quarter of an application's start."""
    return ssl.create_default_context(cafile=authorities)


def _url(config: BucketConfig, endpoint_url: str | None) -> str:
    return bucket_url(
        config.name,
        region=config.region,
        endpoint_url=endpoint_url,
        path_style=config.path_style,
        dual_stack=config.dual_stack,
        fips=config.fips,
    )
