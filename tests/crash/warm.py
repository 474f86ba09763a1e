"""The start of a broker, done once in the process from which all brokers are forked.

This is imported there and nowhere else. It begins no thread, so that forking is safe.
"""

from functools import cache

import boto3
import psycopg
import sqlalchemy.dialects.postgresql.psycopg
import uvicorn.lifespan.on
import uvicorn.loops.auto
import uvicorn.protocols.http.auto

from broker.aws.bucket import Bucket, BucketConfig
from broker.domain.sigv4 import Credentials
from tests.support import dying

WARM = (psycopg, sqlalchemy, uvicorn, dying)
# A session holds the model of S3. Reading it takes longer than the rest of a start, so the forks share one.
boto3.Session = cache(boto3.Session)
Bucket(
    BucketConfig(
        name="warm",
        region="eu-central-1",
        endpoint_url="http://127.0.0.1:1",
        path_style=True,
        is_aws=False,
        credentials=Credentials("warm", "warm"),
    )
).close()
