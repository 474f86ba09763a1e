"""Clients of an embedded S3."""

from typing import Any

import boto3
from botocore.config import Config

from broker.dev.s3 import EmbeddedS3


def client_of(s3: EmbeddedS3) -> Any:
    """Return a boto3 client of an embedded S3 that does not retry."""
    return boto3.client(
        "s3",
        endpoint_url=s3.endpoint_url,
        aws_access_key_id=s3.access_key,
        aws_secret_access_key=s3.secret_key,
        region_name=s3.region,
        config=Config(signature_version="s3v4", retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )
