"""A broker that takes uploads in parts as small as S3 allows, behind a real server."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker.app import PREFIX, create_app
from broker.dev.s3 import EmbeddedS3
from tests.support.live import live
from tests.support.serving import ALL, on_s3, settings_of, token

PART = 5 * 1024**2


@dataclass(frozen=True, slots=True)
class PartsBroker:
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


@contextmanager
def parts_broker(folder: Path, s3: EmbeddedS3, s3_client: Any, bucket: str, **overrides: Any) -> Iterator[PartsBroker]:
    """Serve a broker with its records in `folder`; `overrides` are settings."""
    settings = settings_of(
        folder,
        **(on_s3(s3, bucket) | {"s3_timeout_seconds": 30, "part_size": PART} | overrides),
    )
    with live(create_app(settings)) as address:
        yield PartsBroker(address + PREFIX, token(scope=f"{ALL} media:delegate", seconds=3600), bucket, s3, s3_client)
