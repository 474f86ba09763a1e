"""A broker that takes uploads in parts, for the Python client."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.dev.s3 import EmbeddedS3
from tests.support.parts_broker import PART, PartsBroker, parts_broker


@pytest.fixture
def served(tmp_path: Path, embedded_s3: EmbeddedS3, s3_client: Any, bucket: str) -> Iterator[PartsBroker]:
    """Serve a broker whose parts are as small as S3 allows."""
    with parts_broker(tmp_path, embedded_s3, s3_client, bucket) as broker:
        yield broker


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Write a file of six parts; the last one is small."""
    file = tmp_path / "film.mp4"
    file.write_bytes(os.urandom(5 * PART + 1234))
    return file
