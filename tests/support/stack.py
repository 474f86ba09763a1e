"""The servers of the browser tests, on three origins: an embedded S3, a broker with its console, and an application."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import jwt
import uvicorn
from botocore.config import Config
from fastapi import FastAPI, Response
from starlette.types import ASGIApp

from broker.app import PREFIX, create_app
from broker.dev.demo import demo_router
from broker.dev.s3 import EmbeddedS3, start_embedded_s3
from broker.settings import Settings
from tests.support.databases import sqlite_url
from tests.support.slow_link import SlowLink

SECRET = "a secret of the browser tests, long enough"
BUCKET = "videos"


@dataclass(frozen=True, slots=True)
class Stack:
    """The addresses of all servers. An origin has no trailing slash."""

    s3: EmbeddedS3
    broker: str
    app: str
    clock: "Clock"
    pages: FastAPI
    """The application; a test may add a backend of its own to it."""

    @property
    def prefix(self) -> str:
        """Return the absolute URL of the broker's prefix."""
        return self.broker + PREFIX

    def s3_client(self) -> Any:
        """Return a boto3 client with the broker's own keys."""
        return boto3.client(
            "s3",
            endpoint_url=self.s3.endpoint_url,
            region_name=self.s3.region,
            aws_access_key_id=self.s3.access_key,
            aws_secret_access_key=self.s3.secret_key,
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )

    @property
    def module(self) -> str:
        """Return the address of the browser helper."""
        return f"{self.prefix}/broker-upload.js"


class Clock:
    """The broker's clock: the machine's time plus `ahead`."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


SCOPE = "media:upload media:read media:delete"


def token(owner: str = "browser", seconds: int = 7200, *, scope: str = SCOPE) -> str:
    """Mint a token, by default with a user's permissions."""
    claims = {"sub": owner, "exp": int(time.time()) + seconds, "scope": scope}
    return jwt.encode(claims, SECRET, "HS256")


@contextmanager
def running_stack(
    folder: Path,
    *,
    bucket: str = BUCKET,
    link_seconds: int = 3600,
    link: SlowLink | None = None,
    max_file_size: int = 100_000_000,
    part_size: int = 16 * 1024**2,
) -> Iterator[Stack]:
    """Start all three servers, and stop them afterwards. With a `link`, S3 is reached through it."""
    broker_socket, app_socket = _listen(), _listen()
    broker, app = _origin(broker_socket), _origin(app_socket)
    clock = Clock()
    with start_embedded_s3(buckets=[BUCKET], cors_origins=[broker, app], controlled=True) as s3:
        settings = Settings(
            _env_file=None,
            use_cloud_storage=False,
            cloud_storage_provider="s3",
            bucket_name=bucket,
            region=s3.region,
            access_key_id=s3.access_key,
            secret_access_key=s3.secret_key,
            s3_endpoint_url=link.to(s3.endpoint_url) if link else s3.endpoint_url,
            s3_path_style=True,
            max_file_size=max_file_size,
            part_size=part_size,
            redirect_origins=(broker, app),
            cors_origins=(app,),
            secret_key=SECRET,
            database_url=sqlite_url(folder),
        )
        served = create_app(settings, clock=clock)
        served.include_router(
            demo_router(
                prefix=PREFIX,
                token=token,
                s3_origin=s3.endpoint_url,
                rules=settings.rules,
                link_seconds=link_seconds,
            )
        )
        pages = _application()
        with _serving(served, broker_socket), _serving(pages, app_socket):
            yield Stack(s3, broker, app, clock, pages)


def _application() -> FastAPI:
    """Return an application with a blank page, in which each test runs its own script."""
    app = FastAPI()

    @app.get("/")
    async def page() -> Response:
        body = '<!doctype html><title>An application</title><input type="file" multiple><div id="uploader"></div>'
        return Response(body, media_type="text/html")

    return app


@contextmanager
def _serving(app: ASGIApp, listening: socket.socket) -> Iterator[None]:
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise RuntimeError("the server did not start")
        time.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(10)


def _listen() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def _origin(listening: socket.socket) -> str:
    return f"http://127.0.0.1:{listening.getsockname()[1]}"
