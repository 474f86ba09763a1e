"""A broker that takes uploads in parts, behind a real server, for the phones' kits."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from broker.app import PREFIX, create_app
from broker.dev.s3 import EmbeddedS3
from tests.support.live import live
from tests.support.serving import settings_of, token

MIB = 1024**2
PART = 5 * MIB


@dataclass(frozen=True, slots=True)
class Served:
    """The broker's prefix, a user's token, and what its bucket holds."""

    prefix: str
    token: str
    bucket: str
    s3: EmbeddedS3
    s3_client: Any

    def staged(self) -> list[int]:
        """Return the numbers of the parts in the bucket."""
        listed = self.s3_client.list_objects_v2(Bucket=self.bucket, Prefix="staging/").get("Contents", [])
        return [int(entry["Key"].rpartition("/")[2]) for entry in listed]


@pytest.fixture
def served(tmp_path: Path, embedded_s3: EmbeddedS3, s3_client: Any, bucket: str) -> Iterator[Served]:
    """Serve a broker whose parts are as small as S3 allows."""
    settings = settings_of(
        tmp_path,
        bucket_name=bucket,
        region=embedded_s3.region,
        access_key_id=embedded_s3.access_key,
        secret_access_key=embedded_s3.secret_key,
        s3_endpoint_url=embedded_s3.endpoint_url,
        s3_path_style=True,
        s3_timeout_seconds=30,
        part_size=PART,
    )
    with live(create_app(settings)) as address:
        yield Served(address + PREFIX, token(seconds=3600), bucket, embedded_s3, s3_client)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Write a file of six parts; the last one is small."""
    file = tmp_path / "film.mp4"
    file.write_bytes(os.urandom(5 * PART + 1234))
    return file
