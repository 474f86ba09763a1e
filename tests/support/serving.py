"""The whole application in this process, on a SQLite file of its own, without S3 and without a network."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
from starlette.types import ASGIApp, Receive, Scope, Send

from broker.app import PREFIX, create_app
from broker.dev.s3 import EmbeddedS3
from broker.lifecycle.application.deciding import IssueHandler
from broker.settings import Settings, load_settings
from tests.support.databases import sqlite_url

SECRET = "the secret of the security tests, long enough"
ALL = "media:upload media:read media:delete"
UNLIMITED = {
    f"rate_limit_{kind}": "off"
    for kind in ("address", "issue", "complete", "parts", "playback", "delete", "form", "health")
}


def settings_of(folder: Path, **overrides: Any) -> Settings:
    """Return settings over a fresh database in `folder`; no limits unless they are named, and S3 is nowhere."""
    known: dict[str, Any] = {
        "secret_key": SECRET,
        "bucket_name": "videos",
        "access_key_id": "AKIAIOSFODNN7EXAMPLE",
        "secret_access_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "region": "eu-central-1",
        "cloud_storage_provider": "s3",
        "s3_endpoint_url": "http://127.0.0.1:9",
        "s3_timeout_seconds": 1,
        "database_url": sqlite_url(folder),
        **UNLIMITED,
    }
    return load_settings(None, **{**known, **overrides})


def on_s3(s3: EmbeddedS3, bucket: str) -> dict[str, Any]:
    """Return the settings of a broker on a bucket of the embedded S3."""
    return {
        "bucket_name": bucket,
        "access_key_id": s3.access_key,
        "secret_access_key": s3.secret_key,
        "region": s3.region,
        "s3_endpoint_url": s3.endpoint_url,
        "s3_path_style": True,
        "s3_timeout_seconds": 30,
    }


@asynccontextmanager
async def client_of(app: Any, *, address: str = "192.0.2.7", raised: bool = False) -> AsyncIterator[httpx.AsyncClient]:
    """Start an application and yield a client of it; its exceptions are answered, and `raised` only if asked for."""
    async with app.router.lifespan_context(app) as state:
        transport = httpx.ASGITransport(
            app=_with_state(app, state), client=(address, 50000), raise_app_exceptions=raised
        )
        async with httpx.AsyncClient(transport=transport, base_url="http://broker.example") as client:
            yield client


@asynccontextmanager
async def served(folder: Path, **overrides: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Serve an application with these settings; the client's base is the prefix of the routes."""
    async with asking(None, folder, **overrides) as client:
        yield client


@asynccontextmanager
async def asking(
    on_issue: IssueHandler | None, folder: Path, *, raised: bool = False, **overrides: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """Serve an application in which `on_issue` decides on uploads; its exceptions are raised if asked for."""
    async with client_of(create_app(settings_of(folder, **overrides), on_issue=on_issue), raised=raised) as client:
        client.base_url = httpx.URL(f"http://broker.example{PREFIX}")
        yield client


def token(owner: str = "anna", scope: str | None = ALL, *, seconds: int = 7200, **claims: Any) -> str:
    """Return an HS256 token that the settings above accept."""
    named = {} if scope is None else {"scope": scope}
    return jwt.encode({"sub": owner, "exp": int(time.time()) + seconds, **named, **claims}, SECRET, "HS256")


def bearing(raw: str) -> dict[str, str]:
    """Return the header that carries a token."""
    return {"Authorization": f"Bearer {raw}"}


async def issued(client: httpx.AsyncClient, headers: dict[str, str]) -> str:
    """Issue an upload and return the id of its media."""
    answer = await client.post("/upload", json={"content_type": "video/mp4"}, headers=headers)
    assert answer.status_code == 201, answer.text
    media_id: str = answer.json()["media_id"]
    return media_id


def _with_state(app: ASGIApp, state: Any) -> ASGIApp:
    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = dict(state or {})
        await app(scope, receive, send)

    return serve
