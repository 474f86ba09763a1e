"""A real PgBouncer before the tests' PostgreSQL; where the program is missing, its tests are skipped by name."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.support.daemons import free_ports
from tests.support.postgres import PostgreSQL, unprivileged

START_SECONDS = 100
OpenPooler = Callable[..., str]


@contextmanager
def pooling(postgresql: PostgreSQL, database: str, **options: str | int) -> Iterator[str]:
    """Run a PgBouncer in transaction pooling with these further options; yield the URL of `database` through it."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        reason = "PgBouncer (Debian's pgbouncer) is not installed"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    account = unprivileged() if os.geteuid() == 0 else {}  # PgBouncer refuses to run as root
    home = Path(tempfile.mkdtemp(prefix="broker-pgbouncer-"))
    (port,) = free_ports(1)
    chosen = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "any",
        "pool_mode": "transaction",
        "max_client_conn": 200,
        **options,
    }
    lines = [
        "[databases]",
        f"{database} = host=127.0.0.1 port={postgresql.port} dbname={database} user=broker",
        "[pgbouncer]",
        *(f"{name} = {value}" for name, value in chosen.items()),
    ]
    (home / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
    if account:
        for path in (home, home / "pgbouncer.ini"):
            shutil.chown(path, account["user"], account["group"])
    with (home / "log").open("wb") as log:
        process = subprocess.Popen([program, home / "pgbouncer.ini"], stdout=log, stderr=log, cwd=home, **account)
    url = f"postgresql://broker@127.0.0.1:{port}/{database}"
    try:
        _wait(process, url, home / "log")
        yield url
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(home, ignore_errors=True)


def _wait(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            psycopg.connect(url, connect_timeout=5).close()
            return
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text(errors="replace")[-4000:]) from None
            time.sleep(0.05)


@pytest.fixture
def open_pooler(postgresql: PostgreSQL, postgresql_url: str) -> Iterator[OpenPooler]:
    """Return a function that puts a PgBouncer before the fresh database and returns the URL through it."""
    with ExitStack() as stack:
        database = urlsplit(postgresql_url).path.strip("/")
        yield lambda **options: stack.enter_context(pooling(postgresql, database, **options))
