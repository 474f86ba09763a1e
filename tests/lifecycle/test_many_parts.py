"""Thousands of parts: the list, the digest and the composition for real, with small stand-ins for the parts.

BROKER_TEST_PARTS sets their number; 10,000, the most that S3 allows, take about a minute.
"""

import asyncio
import os
import time
from collections.abc import Iterator
from typing import Any

import boto3
import psutil
import pytest
from botocore.config import Config

from broker.dev.s3 import EmbeddedS3, start_embedded_s3
from broker.domain.keys import part_key
from broker.domain.media import State
from broker.domain.parts import PARTS_PER_LIST
from broker.errors import PromotionRunning
from broker.lifecycle.resumable import forms
from tests.support.in_parts import left_over
from tests.support.world import MakeWorld

PART = 100
PARTS = int(os.environ.get("BROKER_TEST_PARTS", "1200"))
"""More than one list shows."""
UPLOADERS = 8


@pytest.fixture(scope="module")
def embedded_s3() -> Iterator[EmbeddedS3]:
    """Run an embedded S3 that takes small parts."""
    with start_embedded_s3(region="eu-central-1", controlled=True, part_bytes_min=1) as s3:
        yield s3


@pytest.fixture(scope="module")
def s3_client(embedded_s3: EmbeddedS3) -> Any:
    config = Config(signature_version="s3v4", s3={"addressing_style": "path"}, max_pool_connections=UPLOADERS)
    return boto3.client(
        "s3",
        endpoint_url=embedded_s3.endpoint_url,
        aws_access_key_id=embedded_s3.access_key,
        aws_secret_access_key=embedded_s3.secret_key,
        region_name=embedded_s3.region,
        config=config,
    )


@pytest.fixture
def bucket(s3_client: Any, embedded_s3: EmbeddedS3) -> str:
    location = {"LocationConstraint": embedded_s3.region}
    s3_client.create_bucket(Bucket="many-parts", CreateBucketConfiguration=location)
    return "many-parts"


@pytest.mark.timeout(900)
async def test_thousands_of_parts_are_composed_in_bounded_memory(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.domain.rules.part_size_for", lambda size, preferred: PART)
    assert PARTS > PARTS_PER_LIST
    world = make_world(max_size=100_000_000)
    content = os.urandom(PARTS * PART - 1)
    issued = await world.issue(size=len(content), resumable=True)
    assert issued.media.layout.count == PARTS
    assert issued.parts is not None
    assert len(issued.parts.forms) == forms.FIRST_FORMS

    numbers = iter(range(1, PARTS + 1))

    async def put() -> None:
        for number in numbers:  # which all uploaders share
            body = content[(number - 1) * PART : number * PART]
            await world.bucket._call("put_object", "PUT", part_key(issued.media.id, number), body=body)

    await asyncio.gather(*(put() for _ in range(UPLOADERS)))
    process = psutil.Process()
    before, began = process.memory_info().rss, time.perf_counter()
    while True:
        try:
            media = (await world.verbs.complete(issued.media.id, "anna")).media
        except PromotionRunning:
            continue
        break
    seconds, grown = time.perf_counter() - began, process.memory_info().rss - before
    print(f"{PARTS:,} parts: {seconds:.1f} s, the process grew by {grown / 1e6:.0f} MB")  # noqa: T201
    assert (media.state, media.attempt) == (State.READY, 1)
    assert media.etag is not None
    assert media.etag.endswith(f"-{PARTS}")
    assert await world.ready_bytes(issued.media.id) == content
    assert grown < 100_000_000
    await world.purged()
    assert left_over(world, issued.media) == []
