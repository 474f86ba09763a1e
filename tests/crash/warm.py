"""Do once, in the process that all brokers are forked from, what each of them would do at its start.

This is imported there and nowhere else. It begins no thread, so that forking is safe.
"""

from functools import cache

import boto3
import psycopg
import sqlalchemy.dialects.postgresql.psycopg
import uvicorn.lifespan.on
import uvicorn.loops.auto
import uvicorn.protocols.http.auto

from tests.crash import dying

WARM = (psycopg, sqlalchemy, uvicorn, dying)
# A session reads the description of AWS, which takes longer than the rest of a start; the forks share one.
boto3.Session = cache(boto3.Session)
boto3.Session()
