"""Migrations: they build the declared schema, once, even if several start together."""

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from broker.errors import DatabaseUnavailable, SettingsInvalid
from broker.store import is_current, migrate, pending_revision
from broker.store.connections.address import parse_url
from broker.store.indexes import METADATA
from broker.store.migration import ADVISORY_LOCK, VERSION_TABLE, known_revisions
from tests.contract.reflection import reflected

MIGRATE = """
import sys
from broker.store import migrate

print("ready", flush=True)
sys.stdin.readline()
migrate(sys.argv[1])
"""


def test_the_migrated_database_equals_the_declared_one(empty_urls: tuple[str, str]) -> None:
    migrate(empty_urls[0])
    migrated, declared = (sa.create_engine(parse_url(url)) for url in empty_urls)
    METADATA.create_all(declared)
    options = {"compare_type": True, "compare_server_default": True, "version_table": VERSION_TABLE}
    with migrated.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, METADATA) == []
    tables = reflected(migrated)
    assert tables == reflected(declared)
    assert [len(tables["broker_media"]["indexes"]), len(tables["broker_usage"]["checks"])] == [8, 4]
    assert [len(tables[name]["checks"]) for name in ("broker_media", "broker_outbox")] == [1, 1]
    assert len(tables["broker_outbox"]["indexes"]) == 1
    for engine in (migrated, declared):
        engine.dispose()


def test_usage_cannot_fall_below_zero(empty_urls: tuple[str, str]) -> None:
    migrate(empty_urls[0])
    engine = sa.create_engine(parse_url(empty_urls[0]))
    usage = METADATA.tables["broker_usage"]
    blank: dict[str, object] = {column.name: 0 for column in usage.c} | {"owner": "ann"}
    for counter in ("pending_count", "promised_bytes", "stored_bytes", "media_count"):
        with pytest.raises(sa.exc.IntegrityError, match=counter), engine.begin() as connection:
            connection.execute(usage.insert(), blank | {counter: -1})
    engine.dispose()


def test_a_migrated_database_is_current(empty_urls: tuple[str, str]) -> None:
    url = empty_urls[0]
    assert pending_revision(url) == known_revisions()[-1]
    assert not is_current(url)
    migrate(url)
    assert pending_revision(url) is None
    migrate(url)
    assert is_current(url)


@pytest.mark.parametrize("address", ["broker.db", "file:broker.db?uri=true"])
def test_checking_a_missing_file_does_not_create_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert pending_revision(f"sqlite:///{address}") == known_revisions()[-1]
    assert list(tmp_path.iterdir()) == []
    migrate(f"sqlite:///{address}")
    assert pending_revision(f"sqlite:///{address}") is None


def test_concurrent_migrations_do_not_disturb_each_other(empty_urls: tuple[str, str]) -> None:
    replicas = [
        subprocess.Popen(
            [sys.executable, "-c", MIGRATE, empty_urls[0]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for replica in replicas:
        assert replica.stdout is not None
        assert replica.stdout.readline() == "ready\n"
    for replica in replicas:
        assert replica.stdin is not None
        replica.stdin.write("go\n")
        replica.stdin.flush()
    for replica in replicas:
        _, errors = replica.communicate(timeout=60)
        assert replica.returncode == 0, errors
    assert is_current(empty_urls[0])


def test_a_migration_waits_for_a_running_one(kind: str, empty_urls: tuple[str, str]) -> None:
    engine = sa.create_engine(parse_url(empty_urls[0]))
    waiting = threading.Thread(target=migrate, args=[empty_urls[0]])
    with engine.connect() as connection:
        if kind == "sqlite":
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(ADVISORY_LOCK)))
        waiting.start()
        waiting.join(1)
        assert waiting.is_alive()
        assert sa.inspect(engine).get_table_names() == []
        connection.rollback()
    waiting.join(30)
    assert is_current(empty_urls[0])
    engine.dispose()


def test_migrating_an_unavailable_database_names_the_reason() -> None:
    for ask in (migrate, pending_revision):
        with pytest.raises(DatabaseUnavailable) as refusal:
            ask("postgresql://ann:hidden@127.0.0.1:1/broker")
        assert refusal.value.reason.startswith("OperationalError: connection failed")
        assert [secret for secret in ("hidden", "\n", "SELECT") if secret in refusal.value.reason] == []
        assert str(refusal.value) == "The database is unavailable; retry in a moment."


def test_a_locked_file_is_unavailable_and_named_as_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.store.connections.engine.MIGRATION_SECONDS", 0.2)
    url = f"sqlite:///{tmp_path}/broker.db"
    engine = sa.create_engine(parse_url(url))
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseUnavailable) as refusal:
            migrate(url)
    engine.dispose()
    assert refusal.value.reason == "OperationalError: database is locked"


@pytest.mark.parametrize(
    ("address", "path", "cause"),
    [
        ("no/directory/broker.db", "no/directory/broker.db", "unable to open database file"),
        ("file:no/directory/broker.db?uri=true", "no/directory/broker.db", "unable to open database file"),
        ("a-file/broker.db", "a-file/broker.db", "unable to open database file"),
        ("a-directory", "a-directory", "unable to open database file"),
        ("/proc/broker.db", "/proc/broker.db", "unable to open database file"),
        ("file:a-database?mode=ro&uri=true", "a-database", "attempt to write a readonly database"),
        ("a-file", "a-file", "file is not a database"),
    ],
)
def test_a_file_that_cannot_be_a_database_is_an_invalid_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, path: str, cause: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").write_text("What was written here before is something else. " * 100)
    (tmp_path / "a-directory").mkdir()
    sqlite3.connect("a-database").execute("CREATE TABLE other (id)").connection.close()
    with pytest.raises(SettingsInvalid) as refusal:
        migrate(f"sqlite:///{address}")
    assert str(refusal.value).startswith("BROKER_DATABASE_URL: should name a file in an existing, writable directory")
    assert str(refusal.value).endswith(f"; {path}: {cause}")


def test_checking_a_file_that_is_no_database_names_it_and_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "notes"
    file.write_text("What was written here before is something else. " * 100)
    before = file.read_bytes()
    with pytest.raises(SettingsInvalid, match=r"/notes: file is not a database\Z"):
        pending_revision(f"sqlite:///{file}")
    assert file.read_bytes() == before
