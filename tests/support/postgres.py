"""A real PostgreSQL server that the tests start, stop and start again.

The binaries are those of the machine; where there are none the tests that ask for a server are skipped by name, and
fail in CI.
"""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

START_SECONDS = 100


class PostgreSQL:
    """One server with its own data directory, on 127.0.0.1 and on a Unix socket in that directory."""

    def __init__(self, binaries: Path, *, standby_of: "PostgreSQL | None" = None) -> None:
        self._binaries = binaries
        self._home = Path(tempfile.mkdtemp(prefix="broker-postgresql-"))
        # PostgreSQL refuses to run as root.
        self._account: dict[str, Any] = unprivileged() if os.geteuid() == 0 else {}
        if self._account:
            shutil.chown(self._home, self._account["user"], self._account["group"])
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()
        program, arguments = "initdb", ["-U", "broker", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
        if standby_of is not None:
            source = f"postgresql://broker@127.0.0.1:{standby_of.port}/"
            program, arguments = "pg_basebackup", ["-d", source, "-c", "fast", "-X", "stream", "-R", "-N"]
        subprocess.run(
            [self._binaries / program, "-D", self._data, *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self._home,
            **self._account,
        )

    @property
    def _data(self) -> Path:
        return self._home / "data"

    def url(self, database: str = "postgres") -> str:
        """Return the URL of a database on this server."""
        return f"postgresql://broker@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        log = (self._home / "log").open("ab")
        with closing(log):
            self._process = subprocess.Popen(
                [
                    self._binaries / "postgres",
                    *("-D", self._data, "-p", str(self.port), "-k", self._home),
                    *("-c", "listen_addresses=127.0.0.1", "-c", "max_connections=200"),
                    *("-c", "fsync=off"),  # no test survives the machine
                ],
                stdout=log,
                stderr=log,
                cwd=self._home,
                **self._account,
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self._home / "log").read_text()[-4000:]) from None
                time.sleep(0.05)

    def stop(self, *, at_once: bool = False) -> None:
        """Stop the server: after ending its sessions, or at once, as a crash does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT if at_once else signal.SIGINT)
            self._process.wait(START_SECONDS)
            self._process = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop all processes of the server with SIGSTOP: connections stay open, and nothing answers."""
        assert self._process is not None
        server = psutil.Process(self._process.pid)
        processes = [server, *server.children(recursive=True)]
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                process.resume()

    def create(self, template: str = "template1") -> str:
        """Create a database like `template`; return its name."""
        name = f"test_{secrets.token_hex(6)}"
        self.execute(f'CREATE DATABASE {name} TEMPLATE "{template}"')
        return name

    def drop(self, name: str) -> None:
        """Drop a database and end its sessions."""
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def execute(self, statement: str) -> None:
        """Run one statement outside a transaction."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement.encode())

    def remove(self) -> None:
        """Stop the server and remove its data."""
        self.stop(at_once=True)
        shutil.rmtree(self._home)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """Run one PostgreSQL server for all tests."""
    binaries = find_binaries()
    if binaries is None:
        reason = "PostgreSQL's server programs (initdb, postgres) are not installed"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    server = PostgreSQL(binaries)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def postgresql_url(postgresql: PostgreSQL) -> Iterator[str]:
    """Return the URL of a fresh, empty database."""
    name = postgresql.create()
    yield postgresql.url(name)
    postgresql.drop(name)


@pytest.fixture
def restarted_postgresql(postgresql: PostgreSQL) -> Iterator[PostgreSQL]:
    """Return the server for a test that stops it; afterwards it runs again."""
    yield postgresql
    postgresql.stop()
    postgresql.start()


def find_binaries() -> Path | None:
    """Return the directory of this machine's PostgreSQL server programs, if it has them."""
    for candidate in _candidates():
        if all((candidate / program).exists() for program in ("initdb", "postgres")):
            return candidate
    return None


def _candidates() -> Iterator[Path]:
    if pg_config := shutil.which("pg_config"):
        yield Path(subprocess.run([pg_config, "--bindir"], check=True, capture_output=True, text=True).stdout.strip())
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if postgres := shutil.which("postgres"):
        yield Path(postgres).resolve().parent


def unprivileged() -> dict[str, Any]:
    for name in ("postgres", "nobody"):
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    raise RuntimeError("neither postgres nor nobody is an account of this machine")


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
