"""The deployment under examination, and the clients that examine it."""

import asyncio
import json
import secrets
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import boto3
import httpx
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from broker.aws.bucket import Bucket, BucketConfig
from broker.aws.credentials import client_keys
from broker.domain.s3.sigv4 import Credentials
from broker.egress.proxy import EgressProxy

ANSWER_SECONDS = 10.0
"""The timeout of one request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The part of the settings that the doctor examines."""

    bucket: BucketConfig
    content_type: str
    """An accepted type; the trial upload claims it."""
    page_origins: tuple[str, ...]
    database_url: str
    database_schema: str | None = None
    jwks_url: str | None = None
    token_algorithm: str = "HS256"  # noqa: S105 (the name of an algorithm)
    redis_url: str | None = None
    count_in_redis: Callable[[str], Awaitable[None]] | None = None
    """A function that counts on every node of the Redis at an address, and raises if that fails."""
    resumable_seconds: int = 86_400
    queue_url: str | None = None
    sqs_endpoint_url: str | None = None
    webhook_urls: tuple[str, ...] = ()
    webhooks_on_loopback: bool = False
    private_networks: tuple[str, ...] = ()
    egress_proxy: EgressProxy | None = None
    issue_hook_url: str | None = None
    issue_hook_secrets: tuple[str, ...] = ()
    issue_hook_seconds: float = 5
    issue_hook_on_loopback: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """A deployment, the broker's own client of its bucket, and the other clients that checks need."""

    deployment: Deployment
    bucket: Bucket
    session: boto3.Session
    s3: Any
    """A client for operations that the broker itself never uses, such as reading the bucket's configuration."""
    http: httpx.AsyncClient
    """A client that signs nothing, like a browser or a stranger."""
    now: datetime
    mark: str
    """A random text in every key of this examination."""

    @property
    def name(self) -> str:
        """Return the bucket's name."""
        return self.deployment.bucket.name

    @property
    def arn(self) -> str:
        """Return the bucket's ARN; the regions of China and GovCloud have their own partitions."""
        region = self.deployment.bucket.region
        partition = {"cn": "aws-cn", "us-gov": "aws-us-gov"}.get(region.rpartition("-")[0].rpartition("-")[0], "aws")
        return f"arn:{partition}:s3:::{self.name}"

    async def keys(self) -> Credentials:
        """Return the signing keys. Raises CredentialsExpired."""
        return await self.bucket.credentials(self.now)

    def staging_key(self, purpose: str) -> str:
        """Return a key of no media, under the staging prefix."""
        return f"staging/doctor-{purpose}-{self.mark}"

    def final_key(self) -> str:
        """Return a key of no media, under the prefix of promoted media."""
        return f"media/doctor-{self.mark}"

    def composed_key(self) -> str:
        """Return another key of no media there, for the object that is composed of parts."""
        return f"{self.final_key()}-composed"

    async def ask(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Call an S3 operation on the bucket and return its response. Raises Refused."""
        return await ask(getattr(self.s3, operation), Bucket=self.name, **parameters)

    def aws(self, service: str, command: str, *arguments: str, document: tuple[str, object] | None = None) -> str:
        """Return a command line for the aws program, quoted for a shell; `document` is an option and its JSON."""
        config = self.deployment.bucket
        endpoint = self.deployment.sqs_endpoint_url if service == "sqs" else config.endpoint_url
        words = ["aws", service, command, *arguments]
        if document is not None:
            words += [document[0], json.dumps(document[1], default=str)]
        words += ["--region", config.region]
        return shlex.join(words + (["--endpoint-url", endpoint] if endpoint else []))

    def may(self, *actions: str, prefix: str | None) -> str:
        """Return the command that asks IAM whether a role may do `actions` under a prefix, or on the bucket itself."""
        source = ("--policy-source-arn", "ROLE_ARN")
        resource = self.arn if prefix is None else f"{self.arn}/{prefix}/x"
        return self.aws(
            "iam", "simulate-principal-policy", *source, "--action-names", *actions, "--resource-arns", resource
        )

    def s3api(self, command: str, *arguments: str, document: tuple[str, object] | None = None) -> str:
        """Return a command line of `aws s3api` for the bucket."""
        return self.aws("s3api", command, "--bucket", self.name, *arguments, document=document)


class Refused(Exception):
    """A call of AWS, or of a compatible server, failed; `code` is its error code, or the error's class."""

    def __init__(self, code: str, status: int = 0) -> None:
        super().__init__(code)
        self.code = code
        self.status = status

    @property
    def is_unknown_operation(self) -> bool:
        """Return whether the server does not have this operation."""
        return self.status in {405, 501} or self.code in {"NotImplemented", "MethodNotAllowed"}

    @property
    def is_denied(self) -> bool:
        """Return whether the keys lack the right for this operation."""
        return self.status == 403 or self.code in {"AccessDenied", "AccessDeniedException"}


async def ask(call: Any, **parameters: Any) -> dict[str, Any]:
    """Call an operation of a client on a thread and return its response. Raises Refused."""
    try:
        response: dict[str, Any] = await asyncio.to_thread(call, **parameters)
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        raise Refused(str(error.response.get("Error", {}).get("Code", "Unknown")), status) from error
    except BotoCoreError as error:
        raise Refused(type(error).__name__) from error
    return response


@asynccontextmanager
async def opened(deployment: Deployment) -> AsyncIterator[Patient]:
    """Open the clients that examine a deployment, and close them on exit."""
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
    """Return an SQS client that signs with `keys`."""
    return patient.session.client(
        "sqs",
        region_name=patient.deployment.bucket.region,
        endpoint_url=patient.deployment.sqs_endpoint_url,
        **client_keys(keys),
        config=Config(connect_timeout=5, read_timeout=ANSWER_SECONDS, retries={"total_max_attempts": 2}),
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
            retries={"mode": "standard", "total_max_attempts": 3},
            max_pool_connections=config.pool_size,
            request_checksum_calculation="when_supported" if config.is_aws else "when_required",
            response_checksum_validation="when_supported" if config.is_aws else "when_required",
        ),
    )
