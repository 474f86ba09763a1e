"""What is examined: one deployment of the broker, and the means to look at it."""

import asyncio
import json
import secrets
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import boto3
import httpx
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from broker.aws.bucket import Bucket, BucketConfig
from broker.domain.sigv4 import Credentials

ANSWER_SECONDS = 10.0
"""How long one request may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Say what the settings say, as far as the doctor looks at it."""

    bucket: BucketConfig
    content_type: str
    """A type that is accepted; the trial upload claims it."""
    page_origins: tuple[str, ...]
    database_url: str
    jwks_url: str | None = None
    token_algorithm: str = "HS256"  # noqa: S105 (the name of an algorithm)
    redis_url: str | None = None
    queue_url: str | None = None
    sqs_endpoint_url: str | None = None
    webhook_urls: tuple[str, ...] = ()
    webhooks_on_loopback: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """Hold a deployment, the broker's own bucket for it, and what else a look takes."""

    deployment: Deployment
    bucket: Bucket
    session: boto3.Session
    s3: Any
    """A client, for what the broker itself never asks: how the bucket is set up."""
    http: httpx.AsyncClient
    """What a browser or a stranger would be: it signs nothing."""
    now: datetime
    mark: str
    """A random word in every key of this examination."""

    @property
    def name(self) -> str:
        """Return the bucket's name."""
        return self.deployment.bucket.name

    @property
    def arn(self) -> str:
        """Return the bucket's ARN; China and GovCloud have partitions of their own."""
        region = self.deployment.bucket.region
        partition = {"cn": "aws-cn", "us-gov": "aws-us-gov"}.get(region.rpartition("-")[0].rpartition("-")[0], "aws")
        return f"arn:{partition}:s3:::{self.name}"

    async def keys(self) -> Credentials:
        """Return the keys that sign. Raises CredentialsExpired."""
        return await self.bucket.credentials(self.now)

    def staging_key(self, purpose: str) -> str:
        """Return a key that no media has, under the prefix that forms may write to."""
        return f"staging/doctor-{purpose}-{self.mark}"

    def final_key(self) -> str:
        """Return a key that no media has, under the prefix of what was promoted."""
        return f"media/doctor-{self.mark}"

    async def ask(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Ask S3 about the bucket. Raises Refused."""
        return await ask(getattr(self.s3, operation), Bucket=self.name, **parameters)

    def aws(self, service: str, command: str, *arguments: str, document: tuple[str, object] | None = None) -> str:
        """Return a command of the aws program, ready for a shell; `document` is an option and its JSON."""
        config = self.deployment.bucket
        endpoint = self.deployment.sqs_endpoint_url if service == "sqs" else config.endpoint_url
        words = ["aws", service, command, *arguments]
        if document is not None:
            words += [document[0], json.dumps(document[1], default=str)]
        words += ["--region", config.region]
        return shlex.join(words + (["--endpoint-url", endpoint] if endpoint else []))

    def s3api(self, command: str, *arguments: str, document: tuple[str, object] | None = None) -> str:
        """Return a command about the bucket."""
        return self.aws("s3api", command, "--bucket", self.name, *arguments, document=document)


class Refused(Exception):
    """AWS or a server like it did not do what was asked; `code` is its word, or the name of the failure."""

    def __init__(self, code: str, status: int = 0) -> None:
        super().__init__(code)
        self.code = code
        self.status = status

    @property
    def is_unknown_operation(self) -> bool:
        """Tell that the server does not know what was asked."""
        return self.status in {405, 501} or self.code in {"NotImplemented", "MethodNotAllowed"}

    @property
    def is_denied(self) -> bool:
        """Tell that the keys may not ask this."""
        return self.status == 403 or self.code in {"AccessDenied", "AccessDeniedException"}


async def ask(call: Any, **parameters: Any) -> dict[str, Any]:
    """Call an operation of a client on a thread. Raises Refused."""
    try:
        answer: dict[str, Any] = await asyncio.to_thread(call, **parameters)
    except ClientError as error:
        answered = error.response
        status = answered.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        raise Refused(str(answered.get("Error", {}).get("Code", "Unknown")), status) from error
    except BotoCoreError as error:
        raise Refused(type(error).__name__) from error
    return answer


@asynccontextmanager
async def visited(deployment: Deployment) -> AsyncIterator[Patient]:
    """Open what looking at a deployment takes, and close it again."""
    session = boto3.Session()
    bucket = await asyncio.to_thread(Bucket, deployment.bucket)
    s3 = await asyncio.to_thread(s3_client, session, deployment.bucket, deployment.bucket.endpoint_url)
    timeout = httpx.Timeout(ANSWER_SECONDS, connect=5)
    try:
        async with httpx.AsyncClient(timeout=timeout, follow_redirects=False) as http:
            yield Patient(
                deployment=deployment,
                bucket=bucket,
                session=session,
                s3=s3,
                http=http,
                now=datetime.now(UTC).replace(microsecond=0),
                mark=secrets.token_hex(6),
            )
    finally:
        s3.close()
        await bucket.close()


def sqs_client(patient: Patient, keys: Credentials) -> Any:
    """Return a client of SQS that signs with `keys`."""
    return patient.session.client(
        "sqs",
        region_name=patient.deployment.bucket.region,
        endpoint_url=patient.deployment.sqs_endpoint_url,
        aws_access_key_id=keys.access_key,
        aws_secret_access_key=keys.secret_key,
        aws_session_token=keys.session_token,
        config=Config(connect_timeout=5, read_timeout=ANSWER_SECONDS, retries={"total_max_attempts": 2}),
    )


def s3_client(session: boto3.Session, config: BucketConfig, endpoint_url: str | None) -> Any:
    """Return an S3 client with nothing left to defaults that differ between releases."""
    keys = config.credentials
    return session.client(
        "s3",
        region_name=config.region,
        endpoint_url=endpoint_url,
        aws_access_key_id=keys.access_key if keys else None,
        aws_secret_access_key=keys.secret_key if keys else None,
        aws_session_token=keys.session_token if keys else None,
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
            retries={"mode": "standard", "total_max_attempts": 3},
            max_pool_connections=config.pool_size,
            request_checksum_calculation="when_supported" if config.is_aws else "when_required",
            response_checksum_validation="when_supported" if config.is_aws else "when_required",
        ),
    )
