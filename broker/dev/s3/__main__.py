"""Serve the embedded S3 alone, and print its first key."""

import argparse
import os
import signal
import sys
from pathlib import Path

from broker.dev.s3.keyring import read_keys
from broker.dev.s3.server import rest, start_embedded_s3


def main() -> None:
    """Read the command line, start S3, and wait until it is interrupted."""
    parser = argparse.ArgumentParser(prog="python -m broker.dev.s3", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--region", default="us-east-1")
    parser.add_argument("--data-dir", type=Path, help="keep objects there; without it they end with the server")
    parser.add_argument(
        "--durable",
        action="store_true",
        help="flush each object to the disk (fsync) before the answer; "
        "without this option a power cut may lose the last objects in the data directory",
    )
    parser.add_argument("--bucket", action="append", default=[], help="create a bucket; may be repeated")
    parser.add_argument("--cors-origin", action="append", default=[], help="let pages of this origin use the buckets")
    options = parser.parse_args()
    try:
        keys = read_keys(os.environ.get("BROKER_DEV_S3_KEYS", ""))
    except ValueError as error:
        parser.error(f"BROKER_DEV_S3_KEYS: {error}")
    access_key, secret_key = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not keys and access_key and secret_key:
        keys = [(access_key, secret_key)]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with start_embedded_s3(
        data_dir=options.data_dir,
        durable=options.durable,
        host=options.host,
        port=options.port,
        credentials=keys,
        region=options.region,
        buckets=options.bucket,
        cors_origins=options.cors_origin,
    ) as s3:
        sys.stdout.write(
            f"AWS_ENDPOINT_URL={s3.endpoint_url}\n"
            f"AWS_ACCESS_KEY_ID={s3.access_key}\n"
            f"AWS_SECRET_ACCESS_KEY={s3.secret_key}\n"
            f"AWS_REGION={s3.region}\n"
        )
        sys.stdout.flush()
        try:
            rest()
        except KeyboardInterrupt:
            sys.exit(0)


if __name__ == "__main__":
    main()
