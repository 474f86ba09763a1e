"""A broker that serves HTTP in front of one S3 server."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import httpx
import uvicorn

from broker import app
from broker.clock import utc_now
from broker.settings import load_settings
from tests.acceptance.client import SECRET
from tests.acceptance.servers import S3
from tests.support.databases import sqlite_url


@contextmanager
def served_broker(
    s3: S3, folder: Path, *, clock: Callable[[], datetime] = utc_now, **settings: object
) -> Iterator[httpx.Client]:
    """Serve a broker on a free port of 127.0.0.1, with its database in `folder`; yield an HTTP client of it."""
    read = load_settings(
        env_file=None,
        bucket_name=s3.bucket,
        region=s3.region,
        access_key_id=s3.credentials.access_key,
        secret_access_key=s3.credentials.secret_key,
        session_token=s3.credentials.session_token,
        cloud_storage_provider="aws" if s3.endpoint_url is None else "s3",
        s3_endpoint_url=s3.endpoint_url,
        s3_path_style=s3.endpoint_url is not None,
        database_url=sqlite_url(folder),
        secret_key=SECRET,
        **settings,
    )
    server = uvicorn.Server(uvicorn.Config(app.create_app(read, clock=clock), log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            host, port = listener.getsockname()
            with httpx.Client(base_url=f"http://{host}:{port}", timeout=60) as http:
                yield http
        finally:
            server.should_exit = True
            thread.join()
