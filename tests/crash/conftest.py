"""A broker that may be killed and started again, on the test's own database and bucket."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from broker.dev.s3 import EmbeddedS3
from broker.store.connections.address import parse_url
from tests.crash.client import SECRET, Client
from tests.crash.invariants import Found, broken, find_all, unsettled
from tests.crash.processes import Broker, start_broker
from tests.support.dying import PART_BYTES

POLICY_SECONDS = 900
GRACE_SECONDS = 60
LONG = 3600.0
"""Longer than any policy with its grace and any lease, in seconds."""

Overrides = Callable[..., dict[str, Any]]


@pytest.fixture
def overrides(embedded_s3: EmbeddedS3, bucket: str) -> Overrides:
    """Return a function that makes the settings of a broker on a database."""

    def make(database_url: str, **more: Any) -> dict[str, Any]:
        kinds = ("address", "issue", "complete", "parts", "playback", "delete", "form", "health")
        return {
            "cloud_storage_provider": "s3",
            "bucket_name": bucket,
            "region": embedded_s3.region,
            "access_key_id": embedded_s3.access_key,
            "secret_access_key": embedded_s3.secret_key,
            "s3_endpoint_url": embedded_s3.endpoint_url,
            "s3_path_style": True,
            "s3_timeout_seconds": 30,
            "secret_key": SECRET,
            "database_url": database_url,
            "policy_seconds": POLICY_SECONDS,
            "resumable_seconds": POLICY_SECONDS,
            "part_size": PART_BYTES,
            "grace_seconds": GRACE_SECONDS,
            "log_level": "error",
            **{f"rate_limit_{kind}": "off" for kind in kinds},
            **more,
        }

    return make


@dataclass
class World:
    """A broker, its client, its database and its bucket."""

    settings: dict[str, Any]
    database: sa.Engine
    s3: Any
    http: httpx.Client
    brokers: list[Broker] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.brokers.append(start_broker(self.settings))
        self.client = Client(self.http, self.broker.url)

    @property
    def broker(self) -> Broker:
        """Return the running broker."""
        return self.brokers[-1]

    def restart(self) -> None:
        """Start another broker after a death."""
        self.brokers.append(start_broker(self.settings))
        self.client.url = self.broker.url

    def sweep(self, clock: float, **steering: str) -> httpx.Response:
        """Sweep until nothing is due at that time."""
        headers = {"x-clock": str(clock), **steering}
        return self.http.post(f"{self.broker.origin}/sweep", headers=headers).raise_for_status()

    def settle(self) -> None:
        """Sweep at two later times, so that media that were promoted by the first sweep are purged by the second."""
        for clock in (LONG, 2 * LONG):
            self.sweep(clock)

    def find(self) -> Found:
        """Return all rows and objects."""
        return find_all(self.database, self.s3, self.settings["bucket_name"])

    def wrong(self) -> list[str]:
        """Return the broken invariants."""
        return list(broken(self.find()))

    def wrong_once_settled(self) -> list[str]:
        """Let everything settle, and return the broken invariants and promises."""
        self.settle()
        found = self.find()
        return [*unsettled(found, datetime.now(UTC) + timedelta(seconds=2 * LONG)), *self.client.untrue(found)]


@pytest.fixture
def database(database_url: str) -> Iterator[sa.Engine]:
    """Return an engine on the database, independent of the broker."""
    engine = sa.create_engine(parse_url(database_url), poolclass=sa.NullPool)
    yield engine
    engine.dispose()


@pytest.fixture
def world(overrides: Overrides, database_url: str, database: sa.Engine, s3_client: Any) -> Iterator[World]:
    """Return a running broker and its surroundings."""
    with httpx.Client(timeout=30) as http:
        made = World(overrides(database_url), database, s3_client, http)
        yield made
    for broker in made.brokers:
        if broker.process.is_alive():
            broker.kill()
