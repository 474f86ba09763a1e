"""One S3 under test: where it answers, with which keys, and what lies in its bucket."""

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import boto3
import httpx
from botocore.config import Config
from botocore.exceptions import ClientError

from broker.domain.sigv4 import Credentials

PAGE_ORIGIN = "https://app.example"
"""The origin whose pages may upload to the bucket under test."""


@dataclass(frozen=True)
class S3:
    """A bucket in one S3. Without an `endpoint_url` it is AWS's, addressed by its virtual host."""

    name: str
    bucket: str
    region: str
    credentials: Credentials
    endpoint_url: str | None = None

    @property
    def bucket_url(self) -> str:
        """Return the URL to which a form is sent."""
        if self.endpoint_url is None:
            return f"https://{self.bucket}.s3.{self.region}.amazonaws.com/"
        return f"{self.endpoint_url}/{self.bucket}"

    @cached_property
    def http(self) -> httpx.Client:
        """Return what a browser or a player would be; a server may close its connection after each answer."""
        return httpx.Client(limits=httpx.Limits(max_keepalive_connections=0), timeout=30)

    @cached_property
    def client(self) -> Any:
        """Return a boto3 client with which a test looks at the bucket, and does what the broker would not."""
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
        """Return what S3 knows of the object, with its checksum, or None where there is no such object."""
        try:
            found: dict[str, Any] = self.client.head_object(Bucket=self.bucket, Key=key, ChecksumMode="ENABLED")
        except ClientError as error:
            if error.response["Error"]["Code"] == "404":
                return None
            raise
        return found

    def keys(self, prefix: str) -> list[str]:
        """Return the keys that begin with `prefix`; at most 1,000."""
        listing = self.client.list_objects_v2(Bucket=self.bucket, Prefix=prefix)
        return [entry["Key"] for entry in listing.get("Contents", [])]

    def create_bucket(self) -> None:
        """Create the bucket, and let pages of PAGE_ORIGIN use it as a browser's upload needs."""
        # us-east-1 is S3's default, and not a constraint that may be named.
        elsewhere = {"CreateBucketConfiguration": {"LocationConstraint": self.region}}
        self.client.create_bucket(Bucket=self.bucket, **({} if self.region == "us-east-1" else elsewhere))
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

    The default is the embedded S3 and Ceph. AWS is only tested where it is named.
    """
    names = os.environ.get("BROKER_TEST_S3", "embedded,ceph").split(",")
    if unknown := set(names) - {"embedded", "ceph", "aws"}:
        raise ValueError(f"BROKER_TEST_S3 names {', '.join(sorted(unknown))}; known are embedded, ceph, aws")
    return names


def aws() -> S3:
    """Return the bucket `BROKER_TEST_AWS_BUCKET` of the account whose credentials boto3 finds.

    The suite changes nothing of the bucket's configuration, so that its CORS rules must name PAGE_ORIGIN, and
    writes only below `acceptance/`, `staging/` and `media/`.
    """
    session = boto3.Session()
    found = session.get_credentials()
    if found is None:
        raise ValueError("BROKER_TEST_S3 names aws, but boto3 finds no credentials")
    if (bucket := os.environ.get("BROKER_TEST_AWS_BUCKET")) is None:
        raise ValueError("BROKER_TEST_S3 names aws, but BROKER_TEST_AWS_BUCKET names no bucket")
    keys = found.get_frozen_credentials()
    location = session.client("s3").head_bucket(Bucket=bucket)["BucketRegion"]
    assert keys.access_key is not None
    assert keys.secret_key is not None
    return S3("aws", bucket, location, Credentials(keys.access_key, keys.secret_key, keys.token))
