"""Fixtures of every suite: a running embedded S3, and fresh buckets in it."""

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from broker.dev.s3 import EmbeddedS3, start_embedded_s3
from tests.support.s3_clients import client_of

pytest_plugins = (
    "tests.support.ceph_rgw",
    "tests.support.postgres",
    "tests.support.pgbouncer",
    "tests.support.databases",
    "tests.support.seaweedfs",
    "tests.support.skips",
    "tests.support.world",
    "tests.support.scheduling",
    "tests.support.http_clients",
)

PAGE_ORIGIN = "https://app.example"


@pytest.fixture(scope="session")
def embedded_s3() -> Iterator[EmbeddedS3]:
    """Run one embedded S3 for all tests.

    It lies in eu-central-1, where AWS takes Signature Version 4 alone, and clients therefore use it unasked.
    """
    with start_embedded_s3(region="eu-central-1", controlled=True) as s3:
        yield s3


@pytest.fixture(scope="session")
def s3_client(embedded_s3: EmbeddedS3) -> Any:
    """Return a boto3 client of the embedded S3 that does not retry."""
    return client_of(embedded_s3)


@pytest.fixture(scope="session")
def make_bucket(embedded_s3: EmbeddedS3, s3_client: Any) -> Callable[..., str]:
    """Return a function that creates a bucket which pages of `origin` may use, and returns its name."""

    def make(*, origin: str = PAGE_ORIGIN, versioned: bool = False) -> str:
        name = f"test-{secrets.token_hex(6)}"
        s3_client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": embedded_s3.region})
        rule = {
            "AllowedOrigins": [origin],
            "AllowedMethods": ["POST", "GET", "HEAD"],
            "AllowedHeaders": ["*"],
            "ExposeHeaders": ["ETag", "Location"],
            "MaxAgeSeconds": 600,
        }
        s3_client.put_bucket_cors(Bucket=name, CORSConfiguration={"CORSRules": [rule]})
        if versioned:
            s3_client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    return make


@pytest.fixture
def bucket(make_bucket: Callable[..., str], embedded_s3: EmbeddedS3) -> Iterator[str]:
    """Return the name of a fresh bucket; faults and clock of the server are set back afterwards."""
    yield make_bucket()
    embedded_s3.clear_faults()
    embedded_s3.set_clock(0)
