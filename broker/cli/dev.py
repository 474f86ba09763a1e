"""What `broker dev` does: the whole broker on this machine, with an S3 of its own.

Everything listens on 127.0.0.1 and is kept in one directory. The secret and the keys are new in every run.
"""

import fcntl
import os
import re
import secrets
import shlex
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvicorn
from rich.console import Console

from broker.app import PREFIX, create_app
from broker.dev.demo import demo_router
from broker.dev.embedded import BUCKET, HOST, embedded_s3, settings_for
from broker.dev.s3 import EmbeddedS3, read_keys, rest
from broker.dev.tokens import mint_token
from broker.errors import SettingsInvalid
from broker.logs import configure_logging
from broker.server.connections import SERVING
from broker.settings import Settings, load_settings
from broker.store import migrate

OWNER = "dev"
SCOPE = "media:upload media:read media:delete"
VARIABLES = "dev.env"
TOKEN_SECONDS = 30 * 86400
"""The run's secret ends sooner than this."""
STOP_SECONDS = 2
"""How long requests in flight may take when it is stopped."""


def run_broker(*, data_dir: Path, port: int, s3_keys: str, console: Console) -> None:
    """Serve the broker, its demo page and its S3 until interrupted."""
    keys = _read_keys(s3_keys)
    with _owning(data_dir), _listening(port, console) as listener:
        bound = listener.getsockname()[1]
        origins = (f"http://{HOST}:{bound}", f"http://localhost:{bound}")
        cors_origins = load_settings(**_nowhere()).cors_origins
        with embedded_s3(data_dir, cors_origins=(*origins, *cors_origins), keys=keys) as s3:
            settings = load_settings(
                **settings_for(s3),
                database_url=f"sqlite:///{(data_dir / 'broker.db').resolve()}",
                secret_key=secrets.token_urlsafe(48),
                redirect_origins=origins,
                public_url=None,
                sweep=True,
            )
            migrate(settings.database_url)
            _serve(settings, listener, s3, data_dir, console)


def run_s3(*, data_dir: Path, port: int, s3_keys: str, console: Console) -> None:
    """Serve the embedded S3 alone until interrupted, with what a broker's environment needs printed."""
    keys = _read_keys(s3_keys)
    with _owning(data_dir), _listening(port, console) as listener:
        bound = listener.getsockname()[1]
    cors_origins = load_settings(**_nowhere()).cors_origins
    with interruptible(), embedded_s3(data_dir, cors_origins=cors_origins, port=bound, keys=keys) as s3:
        lines = {
            "CLOUD_STORAGE_PROVIDER": "s3",
            "AWS_S3_BUCKET_NAME": BUCKET,
            "AWS_S3_REGION": s3.region,
            "AWS_ACCESS_KEY_ID": s3.access_key,
            "AWS_SECRET_ACCESS_KEY": s3.secret_key,
            "BROKER_S3_ENDPOINT_URL": s3.endpoint_url,
            "BROKER_S3_PATH_STYLE": "true",
        }
        for name, value in lines.items():
            _say(console, f"{name}={value}")
        rest()


def _read_keys(text: str) -> list[tuple[str, str]]:
    """Read the keys of the S3's users, or refuse them as a setting."""
    try:
        return read_keys(text)
    except ValueError as error:
        raise SettingsInvalid(problems=f"BROKER_DEV_S3_KEYS: {error}") from None


class _Server(uvicorn.Server):
    """A server that says when it can be used."""

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_start()


def _serve(settings: Settings, listener: socket.socket, s3: EmbeddedS3, data_dir: Path, console: Console) -> None:
    def token() -> str:
        secret = settings.secret_key.get_secret_value()
        return mint_token(secret, owner=OWNER, scope=SCOPE, ttl_seconds=TOKEN_SECONDS, now=datetime.now(UTC))

    address = f"http://{HOST}:{listener.getsockname()[1]}"
    configure_logging("warning", secrets=settings.secrets(), stream=sys.stderr, pretty=True)
    app = create_app(settings)
    app.include_router(demo_router(prefix=PREFIX, token=token, s3_origin=s3.endpoint_url, rules=settings.rules))
    config = uvicorn.Config(app, timeout_graceful_shutdown=STOP_SECONDS, **SERVING)
    ready_made = token()
    with _for_other_terminals(data_dir / VARIABLES, f"{address}{PREFIX}", ready_made) as variables:
        server = _Server(config, lambda: _announce(console, address, ready_made, s3, variables))
        with interruptible():
            server.run(sockets=[listener])


def _announce(console: Console, address: str, token: str, s3: EmbeddedS3, variables: Path) -> None:
    """Print what a newcomer needs; long lines stay whole, so that they can be copied."""
    broker = "python -m broker" if Path(sys.argv[0]).name == "__main__.py" else sys.argv[0]
    _say(console, "\n[bold green]The broker runs.[/] Ctrl-C stops it.\n", markup=True)
    _say(console, f"  demo page   {address}/")
    _say(console, f"  interface   {address}{PREFIX}   (described at {address}/docs)")
    _say(console, f"  S3          {s3.endpoint_url}, bucket {BUCKET}")
    _say(console, f"  token       {token}")
    _say(console, "\nTry in another terminal:\n")
    _say(console, f"  curl -H 'Authorization: Bearer {token}' {address}{PREFIX}/")
    _say(console, f"  . {shlex.quote(str(variables))} && {broker} upload FILE\n")


def _say(console: Console, text: str, *, markup: bool = False) -> None:
    console.print(text, soft_wrap=True, highlight=False, markup=markup)


@contextmanager
def _owning(data_dir: Path) -> Iterator[None]:
    """Hold `data_dir` for this process alone: two of them would write the same objects."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SettingsInvalid(
                problems=f"{data_dir} is in use: another `broker dev` serves it{_address_in(data_dir / VARIABLES)}. "
                "Open that, stop it with Ctrl-C, or name another directory with --data-dir."
            ) from None
        yield


def _address_in(variables: Path) -> str:
    """Return where the broker of these variables is, as the end of a sentence; empty where nothing says so."""
    found = re.search(r"BROKER_URL=(https?://[^/\s]+)", variables.read_text()) if variables.exists() else None
    return f" at {found[1]}/" if found else ""


@contextmanager
def _listening(port: int, console: Console) -> Iterator[socket.socket]:
    """Listen on `port`, or on a free one where that is taken."""
    try:
        listener = socket.create_server((HOST, port))
    except OSError as error:
        listener = socket.create_server((HOST, 0))
        reason = os.strerror(error.errno or 0)
        _say(console, f"Port {port}: {reason}; {listener.getsockname()[1]} is used instead.")
    with listener:
        yield listener


@contextmanager
def _for_other_terminals(path: Path, url: str, token: str) -> Iterator[Path]:
    """Keep the address and the token in a file that a shell can read, as long as they are good for something."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(f"export BROKER_URL={url}\nexport BROKER_TOKEN={token}\n")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def beside_s3(settings: Settings, *, data_dir: Path) -> Iterator[Settings]:
    """Run the embedded S3 beside a server, and yield the settings bound to it."""
    with interruptible(), embedded_s3(data_dir, cors_origins=settings.cors_origins) as s3:
        yield load_settings(**settings_for(s3))


@contextmanager
def interruptible() -> Iterator[None]:
    """Return on SIGINT and SIGTERM, so that what was opened before is closed.

    A shell lets what it starts in the background ignore SIGINT; a server answers to it nevertheless, as uvicorn does.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        return


def _nowhere() -> dict[str, Any]:
    """Return settings under which all others can be read before the S3 is there."""
    return {"use_cloud_storage": False, "secret_key": secrets.token_urlsafe(48)}
