"""Somebody else who writes to the bucket, with the broker's keys and none of its care."""

import boto3

from broker.aws.bucket import BucketConfig
from broker.doctor.deployment import s3_client


def puts(config: BucketConfig, key: str, body: bytes) -> None:
    """Put a video under `key`, over what is there."""
    client = s3_client(boto3.Session(), config, config.endpoint_url)
    try:
        client.put_object(Bucket=config.name, Key=key, Body=body, ContentType="video/mp4")
    finally:
        client.close()
