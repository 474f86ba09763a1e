"""The URL of the database, validated, with its options read by their types."""

from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import sqlalchemy as sa
from sqlalchemy import exc

from broker.errors import SettingsInvalid

SQLITE_OPTIONS = {"timeout", "check_same_thread", "cached_statements", "detect_types", "isolation_level"}
"""The options of Python's driver that SQLAlchemy reads from a URL. With `uri=true` SQLite reads the others itself."""
PREPARE_THRESHOLD = "prepare_threshold"
NUMBERS = ("connect_timeout", PREPARE_THRESHOLD)
"""The options of PostgreSQL that psycopg reads itself. All others are libpq's, which reads them as text."""


def parse_url(url: str) -> sa.URL:
    """Return the URL with its driver named: psycopg 3 for PostgreSQL, the standard library's for SQLite.

    Raises SettingsInvalid, without quoting the URL, if it is malformed, names another database, or names SQLite in
    memory, which neither threads nor processes could share, and if an option is unknown or has a value of another type.
    """
    try:
        parsed = sa.make_url(url)
    except exc.ArgumentError:
        raise _invalid("cannot be read") from None
    except ValueError:
        raise _invalid("its port should be a number; several hosts: ?host=one,two&port=5432,5432") from None
    match parsed.drivername:
        case "postgres" | "postgresql" | "postgresql+psycopg":
            parsed = parsed.set(drivername="postgresql+psycopg")
            _require_libpq_options(parsed)
        case "sqlite" | "sqlite+pysqlite":
            if parsed.database in (None, "", ":memory:") or parsed.query.get("mode") == "memory":
                raise _invalid("names SQLite in memory; should name a file: sqlite:///path")
            parsed = parsed.set(drivername="sqlite+pysqlite")
            _require_sqlite_options(parsed)
        case other:
            raise _invalid(f"names {other!r}, which is not supported; use postgresql or sqlite")
    return parsed


def sqlite_file(url: sa.URL) -> Path:
    """Return the file of an SQLite URL, given as a path or in the form `file:path?mode=rw&uri=true`.

    Source: SQLite documentation, "Uniform Resource Identifiers".
    """
    name = url.database or ""
    return Path(unquote(urlsplit(name).path)) if "uri" in url.query and name.startswith("file:") else Path(name)


def driver_options(url: sa.URL) -> dict[str, Any]:
    """Return the options of a PostgreSQL URL that psycopg reads itself, by their types. Raises SettingsInvalid.

    `prepare_threshold` is the number of runs after which a statement is prepared; `none` prepares no statement.
    """
    return {name: _number(name, str(url.query[name])) for name in NUMBERS if name in url.query}


def _number(name: str, value: str) -> int | None:
    if name == PREPARE_THRESHOLD and value.lower() == "none":
        return None
    if not value.isdecimal():
        raise _invalid(f"its option {name} should be a number")
    return int(value)


def _require_libpq_options(url: sa.URL) -> None:
    driver_options(url)
    conninfo = import_module("psycopg.conninfo")  # an optional dependency, required by this setting
    for name, value in url.query.items():
        if name in NUMBERS:
            continue
        try:
            conninfo.make_conninfo(**{name: value if isinstance(value, str) else ",".join(value)})
        except import_module("psycopg").ProgrammingError:
            raise _invalid(f"its option {name} is not one of libpq's") from None


def _require_sqlite_options(url: sa.URL) -> None:
    known = SQLITE_OPTIONS | ({*url.query} if "uri" in url.query else set())
    if unknown := sorted({*url.query} - known):
        raise _invalid(
            f"its option {', '.join(unknown)} is unknown; known are {', '.join(sorted(SQLITE_OPTIONS))}, uri"
        )
    try:
        sa.create_engine(url).dispose()
    except (TypeError, ValueError):
        raise _invalid("an option's value is not of its type") from None


def _invalid(problem: str) -> SettingsInvalid:
    return SettingsInvalid(problems=f"BROKER_DATABASE_URL: {problem}")
