"""The URL of the database: what it may name, its options by their types, and the message for everything else."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from broker.errors import SettingsInvalid
from broker.store import Store
from broker.store.connections.address import driver_options, parse_url, sqlite_file
from broker.store.connections.sessions import postgresql_arguments

POSTGRESQL = "postgresql://ann@db.example/broker"
IN_MEMORY = "names SQLite in memory; should name a file: sqlite:///path"
PORT = "its port should be a number; several hosts: ?host=one,two&port=5432,5432"
UNSUPPORTED = "names 'mysql', which is not supported; use postgresql or sqlite"
KNOWN = "known are cached_statements, check_same_thread, detect_types, isolation_level, timeout, uri"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("sqlite://", IN_MEMORY),
        ("sqlite:///:memory:", IN_MEMORY),
        ("sqlite+pysqlite:///:memory:", IN_MEMORY),
        ("sqlite:///file:x?mode=memory&uri=true", IN_MEMORY),
        ("mysql://host/broker", UNSUPPORTED),
        ("nonsense", "cannot be read"),
        ("postgresql://ann:its:secret@host:port/broker", PORT),
        ("postgresql://ann:its:secret@one:5432,two:5432/broker", PORT),
        (f"{POSTGRESQL}?prepare_threshold=often", "its option prepare_threshold should be a number"),
        (f"{POSTGRESQL}?prepare_threshold=-1", "its option prepare_threshold should be a number"),
        (f"{POSTGRESQL}?connect_timeout=soon", "its option connect_timeout should be a number"),
        (f"{POSTGRESQL}?connect_timeout=none", "its option connect_timeout should be a number"),
        (f"{POSTGRESQL}?autocommit=1", "its option autocommit is not one of libpq's"),
        (f"{POSTGRESQL}?connect_timeout=7&nonsense=1", "its option nonsense is not one of libpq's"),
        ("sqlite:///broker.db?nonsense=1", f"its option nonsense is unknown; {KNOWN}"),
        ("sqlite:///broker.db?timeout=1&mode=rw&cache=private", f"its option cache, mode is unknown; {KNOWN}"),
        ("sqlite:///broker.db?timeout=soon", "an option's value is not of its type"),
    ],
)
def test_an_unusable_url_is_refused(url: str, problem: str) -> None:
    with pytest.raises(SettingsInvalid) as refusal:
        Store(url)
    assert str(refusal.value) == f"BROKER_DATABASE_URL: {problem}"


@pytest.mark.parametrize(
    ("url", "driver"),
    [(f"{scheme}://ann@db.example/broker", "postgresql+psycopg") for scheme in ("postgres", "postgresql")]
    + [
        (f"{scheme}:///broker.db?timeout=1.5&check_same_thread=false", "sqlite+pysqlite")
        for scheme in ("sqlite", "sqlite+pysqlite")
    ]
    + [
        ("postgresql+psycopg://ann@/broker?host=one,two&port=5432,5433&connect_timeout=7", "postgresql+psycopg"),
        ("postgresql://ann@/broker?host=one&host=two", "postgresql+psycopg"),
        ("sqlite:///file:broker.db?mode=rw&cache=private&uri=true", "sqlite+pysqlite"),
    ],
)
def test_an_usable_url_gets_the_name_of_its_driver(url: str, driver: str) -> None:
    assert parse_url(url) == sa.make_url(url).set(drivername=driver)


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("prepare_threshold=0", {"prepare_threshold": 0}),
        ("prepare_threshold=none", {"prepare_threshold": None}),
        ("prepare_threshold=NONE", {"prepare_threshold": None}),
        ("connect_timeout=7&sslmode=require", {"connect_timeout": 7}),
        ("", {}),
    ],
)
def test_the_options_of_an_url_are_read_by_their_types(query: str, options: dict[str, int | None]) -> None:
    assert driver_options(parse_url(f"{POSTGRESQL}?{query}")) == options


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("broker.db", "broker.db"),
        ("/var/lib/broker.db", "/var/lib/broker.db"),
        ("file:a%2520b.db?mode=rw&uri=true", "a b.db"),
        ("file:/var/lib/broker.db?uri=true", "/var/lib/broker.db"),
        ("a%2520b.db?uri=true", "a%20b.db"),
        ("file:broker.db", "file:broker.db"),
    ],
)
def test_the_file_of_an_url_is_named_as_sqlite_reads_it(address: str, path: str) -> None:
    assert sqlite_file(sa.make_url(f"sqlite:///{address}")) == Path(path)


DEFAULTS: dict[str, Any] = {
    "connect_timeout": 3,
    "tcp_user_timeout": 2500,
    "application_name": "s3-media-broker",
    "target_session_attrs": "read-write",
    "prepare_threshold": None,
}


@pytest.mark.parametrize(
    ("query", "seconds", "arguments"),
    [
        ("", 2.5, {}),
        ("", 0.5, {"connect_timeout": 2, "tcp_user_timeout": 500}),
        ("", 60, {"connect_timeout": 10, "tcp_user_timeout": 60000}),
        ("connect_timeout=7&prepare_threshold=0", 2.5, {"connect_timeout": 7}),
        (
            "application_name=app&target_session_attrs=any",
            2.5,
            {"application_name": None, "target_session_attrs": None},
        ),
    ],
)
def test_a_connection_of_postgresql_is_bounded_in_time_and_leads_to_a_writable_server(
    query: str, seconds: float, arguments: dict[str, Any]
) -> None:
    url, chosen = postgresql_arguments(parse_url(f"{POSTGRESQL}?{query}"), seconds)
    expected = DEFAULTS | arguments
    left = {name for name, value in arguments.items() if value is None}  # for libpq, as the URL says them
    assert chosen == {name: value for name, value in expected.items() if name not in left}
    assert set(url.query) == left
