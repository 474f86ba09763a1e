"""The bucket under test in one S3 server, with its endpoint and its key."""

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import boto3
import httpx
from botocore.config import Config
from botocore.exceptions import ClientError

from broker.domain.s3.sigv4 import Credentials

PAGE_ORIGIN = "https://app.example"
"""The origin whose pages may upload to the bucket under test."""

LOCAL = ("embedded", "ceph", "seaweedfs")
"""The servers that the suite starts on this machine."""


@dataclass(frozen=True)
class S3:
    """A bucket in one S3 server. Without an `endpoint_url` it is a bucket of AWS, addressed by its virtual host."""

    name: str
    bucket: str
    region: str
    credentials: Credentials
    endpoint_url: str | None = None

    @property
    def bucket_url(self) -> str:
        """Return the URL to which a client posts a form."""
        if self.endpoint_url is None:
            return f"https://{self.bucket}.s3.{self.region}.amazonaws.com/"
        return f"{self.endpoint_url}/{self.bucket}"

    @cached_property
    def http(self) -> httpx.Client:
        """Return an HTTP client, in the role of a browser or a player. It opens a connection for each request."""
        return httpx.Client(limits=httpx.Limits(max_keepalive_connections=0), timeout=30)

    @cached_property
    def client(self) -> Any:
        """Return a boto3 client with which a test inspects and prepares the bucket."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=self.region,
            aws_access_key_id=self.credentials.access_key,
            aws_secret_access_key=self.credentials.secret_key,
            aws_session_token=self.credentials.session_token,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path" if self.endpoint_url else "virtual"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                retries={"total_max_attempts": 1},
            ),
        )

    def head(self, key: str) -> dict[str, Any] | None:
        """Return the answer to a HEAD of the object, with its checksum, or None if there is no such object."""
        try:
            head: dict[str, Any] = self.client.head_object(Bucket=self.bucket, Key=key, ChecksumMode="ENABLED")
        except ClientError as error:
            if error.response["Error"]["Code"] == "404":
                return None
            raise
        return head

    def keys(self, prefix: str) -> list[str]:
        """Return the keys that begin with `prefix`, at most 1,000."""
        listing = self.client.list_objects_v2(Bucket=self.bucket, Prefix=prefix)
        return [entry["Key"] for entry in listing.get("Contents", [])]

    def create_bucket(self) -> None:
        """Create the bucket, with the CORS rule that uploads from pages of PAGE_ORIGIN need."""
        # S3 refuses the name of its default region, us-east-1, as a constraint.
        constraint = {"CreateBucketConfiguration": {"LocationConstraint": self.region}}
        self.client.create_bucket(Bucket=self.bucket, **({} if self.region == "us-east-1" else constraint))
        self.client.put_bucket_cors(
            Bucket=self.bucket,
            CORSConfiguration={
                "CORSRules": [
                    {
                        "AllowedOrigins": [PAGE_ORIGIN],
                        "AllowedMethods": ["POST", "GET", "HEAD"],
                        "AllowedHeaders": ["*"],
                        "ExposeHeaders": ["ETag", "Location"],
                    }
                ]
            },
        )


def chosen() -> list[str]:
    """Return the names of the servers to test, from `BROKER_TEST_S3`.

    The default is every server that runs on this machine. The suite tests AWS only if the variable names it.
    """
    names = os.environ.get("BROKER_TEST_S3", ",".join(LOCAL)).split(",")
    known = (*LOCAL, "aws")
    if unknown := set(names) - set(known):
        raise ValueError(f"BROKER_TEST_S3 names {', '.join(sorted(unknown))}; known are {', '.join(known)}")
    return names


def aws() -> S3:
    """Return the bucket `BROKER_TEST_AWS_BUCKET` of the account whose credentials boto3 finds.

    The suite does not change the bucket's configuration, so its CORS rules must name PAGE_ORIGIN. The suite
    writes only below `acceptance/`, `staging/` and `media/`.
    """
    session = boto3.Session()
    credentials = session.get_credentials()
    if credentials is None:
        raise ValueError("BROKER_TEST_S3 names aws, but boto3 finds no credentials")
    if (bucket := os.environ.get("BROKER_TEST_AWS_BUCKET")) is None:
        raise ValueError("BROKER_TEST_S3 names aws, but BROKER_TEST_AWS_BUCKET names no bucket")
    keys = credentials.get_frozen_credentials()
    region = session.client("s3").head_bucket(Bucket=bucket)["BucketRegion"]
    assert keys.access_key is not None
    assert keys.secret_key is not None
    return S3("aws", bucket, region, Credentials(keys.access_key, keys.secret_key, keys.token))
