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

from tests.support import dying

WARM = (psycopg, sqlalchemy, uvicorn, dying)
# A session reads the description of AWS, which takes longer than the rest of a start; the forks share one.
boto3.Session = cache(boto3.Session)
boto3.Session()
