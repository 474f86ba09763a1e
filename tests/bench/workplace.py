"""The resources that the contenders share: a directory, a key pair, a token, and databases with ready media."""

import asyncio
import json
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from broker.domain.access.quota import Quota
from broker.domain.ids import new_id
from broker.domain.media import Media, State
from broker.store import Store, migrate
from tests.bench.generator import Request
from tests.bench.rows import ANN
from tests.support.postgres import PostgreSQL, find_binaries

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "bench"
READY = 500
"""How many ready media are asked for in turns."""
BODY = json.dumps({"content_type": "video/mp4", "size": 4_190_112, "filename": "holiday.mp4"}).encode()


@dataclass(frozen=True, slots=True)
class Workplace:
    """Hold the directory of one run, the key that verifies its token, the token, which is Ann's, and a Python."""

    directory: Path
    public_key: Path
    token: str
    postgresql: PostgreSQL | None
    python: Path

    @property
    def headers(self) -> dict[str, str]:
        """Return the header that carries the token."""
        return {"Authorization": f"Bearer {self.token}"}

    def issue(self, path: str) -> Request:
        """Return the request for an upload."""
        return Request("POST", [path], self.headers | {"Content-Type": "application/json"}, BODY)

    def playback(self, prefix: str, ids: list[str]) -> Request:
        """Return the requests for the links of these media."""
        return Request("GET", [f"{prefix}/{one}" for one in ids], self.headers)

    def new_database(self, kind: str) -> str:
        """Return the URL of an empty database, sqlite or postgresql."""
        if kind == "sqlite":
            return f"sqlite:///{tempfile.mkdtemp(dir=self.directory)}/broker.db"
        assert self.postgresql is not None
        return self.postgresql.url(self.postgresql.create())


@contextmanager
def workplace(*, with_postgresql: bool, python: Path = Path(sys.executable)) -> Iterator[Workplace]:
    """Make a directory under `build/bench`, keys and, where asked for, a PostgreSQL server; remove them at the end."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD, prefix="run-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public_key = directory / "public.pem"
        public_key.write_bytes(
            key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
        claims = {
            "sub": ANN,
            "scope": "media:upload media:read media:delete",
            "exp": datetime.now(UTC) + timedelta(days=1),
        }
        token = jwt.encode(claims, key, algorithm="RS256")
        if not with_postgresql:
            yield Workplace(directory, public_key, token, None, python)
            return
        binaries = find_binaries()
        if binaries is None:
            raise SystemExit("PostgreSQL's server programs are not installed; --no-postgresql goes without")
        server = PostgreSQL(binaries)
        try:
            server.start()
            yield Workplace(directory, public_key, token, server, python)
        finally:
            server.remove()


def with_ready_media(url: str) -> list[str]:
    """Bring the database to the schema, record ready media of Ann's, and return their ids."""
    migrate(url)
    return asyncio.run(_record(url))


async def _record(url: str) -> list[str]:
    store = Store(url)
    created_at = datetime.now(UTC) - timedelta(hours=1)
    media = [
        Media(
            id=new_id(created_at),
            owner=ANN,
            state=State.READY,
            content_type="video/mp4",
            max_size=4_190_112,
            filename="holiday.mp4",
            created_at=created_at,
            policy_expires_at=created_at + timedelta(minutes=15),
            size=4_190_112,
            etag="9b2cf535f27731c974343645a3985328",
            ready_at=created_at + timedelta(seconds=9),
        )
        for _ in range(READY)
    ]
    try:
        await asyncio.gather(*(store.add(one, Quota()) for one in media))
    finally:
        await store.close()
    return [str(one.id) for one in media]


async def some_ready(url: str, among: list[UUID]) -> list[str]:
    """Return the ids of ready media of Ann's, each the next one older than one of `among`, taken at random."""
    store = Store(url)
    chosen = random.Random(3).sample(among, min(READY, len(among)))  # noqa: S311
    try:
        pages = await asyncio.gather(*(store.list(ANN, state=State.READY, limit=1, before=one) for one in chosen))
    finally:
        await store.close()
    return [str(one.id) for page in pages for one in page]


async def count_of(url: str) -> int:
    """Return how many media Ann has, in whatever state."""
    store = Store(url)
    try:
        return (await store.usage(ANN)).media_count
    finally:
        await store.close()
