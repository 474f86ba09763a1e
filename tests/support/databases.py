"""Both databases, migrated and empty, for the suites that run over each."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.store import migrate
from tests.support.postgres import PostgreSQL


@pytest.fixture(scope="session")
def migrated_template(postgresql: PostgreSQL) -> str:
    """Return the name of a migrated PostgreSQL database to copy."""
    name = postgresql.create()
    migrate(postgresql.url(name))
    return name


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    """Return which database the test runs on."""
    kind: str = request.param
    return kind


@pytest.fixture
def database_url(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the URL of a migrated database without rows."""
    if kind == "sqlite":
        url = f"sqlite:///{tmp_path}/broker.db"
        migrate(url)
        yield url
        return
    server: PostgreSQL = request.getfixturevalue("postgresql")
    name = server.create(request.getfixturevalue("migrated_template"))
    yield server.url(name)
    server.drop(name)
