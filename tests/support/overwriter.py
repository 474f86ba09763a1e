"""A program that writes to the bucket with the broker's keys, and without its checks."""

import asyncio

import boto3

from broker.aws.bucket import Bucket, BucketConfig
from broker.doctor.deployment import s3_client
from broker.domain.media import Arrived
from tests.support.world import OTHER, VIDEO


def puts(config: BucketConfig, key: str, body: bytes) -> None:
    """Put a video under `key`, over what is there."""
    client = s3_client(boto3.Session(), config, config.endpoint_url)
    try:
        client.put_object(Bucket=config.name, Key=key, Body=body, ContentType="video/mp4")
    finally:
        client.close()


class OverwrittenBetween(Bucket):
    """A bucket whose staging object is overwritten between the HEAD and the copy."""

    times = 1

    async def promote(self, source: str, target: str, judged: Arrived) -> bool:
        if self.times:
            self.times -= 1
            body = OTHER if self.times % 2 == 0 else VIDEO
            await asyncio.to_thread(puts, self.config, source, body)
        return await super().promote(source, target, judged)
