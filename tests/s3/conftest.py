"""Fixtures of the tests of the embedded S3."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from broker.dev.s3 import EmbeddedS3
from tests.s3.forms import Form
from tests.s3.multipart import Multipart
from tests.s3.requests import Requests


@pytest.fixture
def form(embedded_s3: EmbeddedS3, bucket: str) -> Form:
    """Return a valid form for the bucket."""
    return Form(embedded_s3, bucket)


@pytest.fixture
def requests(embedded_s3: EmbeddedS3, bucket: str) -> Requests:
    """Return a sender of requests to the bucket that botocore signs."""
    return Requests(embedded_s3, bucket)


@pytest.fixture
def stored(s3_client: Any, bucket: str) -> Callable[[], list[str]]:
    """Return a function that lists the keys of all versions and delete markers in the bucket."""

    def keys() -> list[str]:
        answer = s3_client.list_object_versions(Bucket=bucket)
        return [entry["Key"] for kind in ("Versions", "DeleteMarkers") for entry in answer.get(kind, [])]

    return keys


@pytest.fixture
def multipart_upload(requests: Requests) -> Multipart:
    """Return a multipart upload that is yet to be created."""
    return Multipart(requests)


@pytest.fixture
def in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run a test on a machine whose local time is not UTC."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()
