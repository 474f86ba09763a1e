"""Both databases, migrated and empty, for the suites that run over each."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from broker.store import migrate
from tests.support.postgres import PostgreSQL


@cache
def _migrated_file() -> bytes:
    """Return the file of a migrated SQLite database, made once in each process of tests."""
    with TemporaryDirectory(prefix="broker-migrated-") as folder:
        path = Path(folder) / "broker.db"
        migrate(f"sqlite:///{path}")
        return path.read_bytes()


def sqlite_url(folder: Path) -> str:
    """Put a migrated SQLite database without rows into a folder, unless one is there; return its URL."""
    path = folder / "broker.db"
    if not path.exists():
        path.write_bytes(_migrated_file())
    return f"sqlite:///{path}"


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
        yield sqlite_url(tmp_path)
        return
    server: PostgreSQL = request.getfixturevalue("postgresql")
    name = server.create(request.getfixturevalue("migrated_template"))
    yield server.url(name)
    server.drop(name)
