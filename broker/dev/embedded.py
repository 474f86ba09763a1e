"""The embedded S3 of a developer's machine, and the settings that connect a broker to it."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from broker.dev.kept import free_port, kept_in
from broker.dev.s3 import EmbeddedS3, start_embedded_s3
from broker.errors import SettingsInvalid

HOST = "127.0.0.1"
BUCKET = "videos"


@contextmanager
def embedded_s3(
    data_dir: Path, *, cors_origins: tuple[str, ...], port: int = 0, keys: Sequence[tuple[str, str]] = ()
) -> Iterator[EmbeddedS3]:
    """Run an S3 that stores objects in `data_dir`, with one bucket whose CORS allows `cors_origins`.

    `keys` are pairs of key id and secret, one for each user. Without them, and without a port, those of the last run
    in `data_dir` are used again.
    """
    if find_spec("moto") is None:
        raise SettingsInvalid(problems="The embedded S3 is not installed: pip install 's3-media-broker[dev]'")
    _clear_aws_environment()
    kept = kept_in(data_dir)
    with start_embedded_s3(
        data_dir=data_dir / "s3",
        port=port or free_port(HOST, kept.s3_port),
        buckets=[BUCKET],
        cors_origins=list(cors_origins),
        credentials=keys or [kept.key],
    ) as s3:
        if not port:
            replace(kept, s3_port=s3.port).write(data_dir)
        yield s3


def settings_for(s3: EmbeddedS3) -> dict[str, Any]:
    """Return the settings, by field name, that connect a broker to `s3`."""
    return {
        "use_cloud_storage": False,
        "cloud_storage_provider": "s3",
        "bucket_name": BUCKET,
        "region": s3.region,
        "access_key_id": s3.access_key,
        "secret_access_key": s3.secret_key,
        "session_token": None,
        "credential_expiration": None,
        "s3_endpoint_url": s3.endpoint_url,
        "s3_public_endpoint_url": None,
        "s3_path_style": True,
        "s3_dual_stack": False,
        "s3_fips": False,
    }


def _clear_aws_environment() -> None:
    """Clear the developer's AWS profile and keys, and bypass proxies, so that no request leaves this machine."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), HOST, "localhost")))
