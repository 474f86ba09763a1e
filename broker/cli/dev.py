"""`broker dev`: the whole broker on this machine, with an embedded S3.

Everything listens on 127.0.0.1, and all data is in one directory. The secret, the S3's key and its port are kept there,
so that uploads, tokens and links outlive a restart.
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
from broker.dev.kept import kept_in
from broker.dev.s3 import EmbeddedS3, read_keys, rest
from broker.dev.tokens import mint_token
from broker.errors import SettingsInvalid
from broker.logs import configure_logging
from broker.server.connections import SERVING
from broker.settings import Settings, load_settings
from broker.store import migrate
from broker.wiring import token_rules

OWNER = "dev"
SCOPE = "media:upload media:read media:delete"
VARIABLES = "dev.env"
TOKEN_SECONDS = 30 * 86400
"""Longer than any run; the next one prints a fresh token."""
STOP_SECONDS = 2
"""How long requests in flight may take when the server stops."""


def run_broker(*, data_dir: Path, port: int, s3_keys: str, console: Console) -> None:
    """Serve the broker, its console and its S3 until interrupted."""
    keys = _read_keys(s3_keys)
    with _owning(data_dir), _listening(port, console) as listener:
        bound = listener.getsockname()[1]
        origins = (f"http://{HOST}:{bound}", f"http://localhost:{bound}")
        configured = load_settings(**_without_s3())
        if configured.jwks_url or configured.jwt_public_key:
            _say(console, "BROKER_JWKS_URL and BROKER_JWT_PUBLIC_KEY are ignored here: only `broker dev` signs tokens.")
        with embedded_s3(data_dir, cors_origins=(*origins, *configured.cors_origins), keys=keys) as s3:
            settings = load_settings(
                **settings_for(s3),
                **dict.fromkeys(("jwt_algorithm", "jwks_url", "jwt_public_key")),
                database_url=f"sqlite:///{(data_dir / 'broker.db').resolve()}",
                secret_key=kept_in(data_dir).secret,
                redirect_origins=origins,
                public_url=None,
                sweep=True,
            )
            migrate(settings.database_url)
            _serve(settings, listener, s3, data_dir, console)


def run_s3(*, data_dir: Path, port: int, s3_keys: str, console: Console) -> None:
    """Serve only the embedded S3 until interrupted, and print the environment of a broker that uses it."""
    keys = _read_keys(s3_keys)
    with _owning(data_dir), _listening(port, console) as listener:
        bound = listener.getsockname()[1]
    cors_origins = load_settings(**_without_s3()).cors_origins
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
    """A server that calls `on_start` when it accepts requests."""

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            try:
                self._on_start()
            except SystemExit:  # the reader of standard output has left, as `| head` does
                self.should_exit = True


def _serve(settings: Settings, listener: socket.socket, s3: EmbeddedS3, data_dir: Path, console: Console) -> None:
    def token() -> str:
        secret, rules, now = settings.secret_key.get_secret_value(), token_rules(settings), datetime.now(UTC)
        return mint_token(secret, owner=OWNER, scope=SCOPE, ttl_seconds=TOKEN_SECONDS, now=now, rules=rules)

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
    """Print the addresses, the token, and commands to try. Long lines are not wrapped, so that they can be copied."""
    broker = "python -m broker" if Path(sys.argv[0]).name == "__main__.py" else sys.argv[0]
    _say(console, "\n[bold green]The broker is running.[/] Ctrl-C stops it.\n", markup=True)
    _say(console, f"  console     {address}/")
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
    """Lock `data_dir` for this process, because two processes would write the same objects."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        opened = (data_dir / "lock").open("w")
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise SettingsInvalid(
            problems=f"--data-dir: should be a directory that can be created and written; {data_dir}: {reason}"
        ) from None
    with opened as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SettingsInvalid(
                problems=f"{data_dir} is in use by another `broker dev`{_address_in(data_dir / VARIABLES)}. "
                "Use that one, stop it with Ctrl-C, or name another directory with --data-dir."
            ) from None
        yield


def _address_in(variables: Path) -> str:
    """Return the address of the broker in a file of variables, as ` at URL`, or an empty text if there is none."""
    match = re.search(r"BROKER_URL=(https?://[^/\s]+)", variables.read_text()) if variables.exists() else None
    return f" at {match[1]}/" if match else ""


@contextmanager
def _listening(port: int, console: Console) -> Iterator[socket.socket]:
    """Listen on `port`, or on a free one if that is taken."""
    try:
        listener = socket.create_server((HOST, port))
    except OSError as error:
        listener = socket.create_server((HOST, 0))
        reason = os.strerror(error.errno or 0)
        _say(console, f"Port {port}: {reason}; using {listener.getsockname()[1]} instead.")
    with listener:
        yield listener


@contextmanager
def _for_other_terminals(path: Path, url: str, token: str) -> Iterator[Path]:
    """Keep the address and the token in a file that a shell can read, and remove it on exit."""
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
    with _owning(data_dir), interruptible(), embedded_s3(data_dir, cors_origins=settings.cors_origins) as s3:
        yield load_settings(**settings_for(s3))


@contextmanager
def interruptible() -> Iterator[None]:
    """Leave the body on SIGINT and SIGTERM, so that enclosing contexts are closed.

    A shell starts background processes with SIGINT ignored; like uvicorn, this handles it nevertheless.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        return


def _without_s3() -> dict[str, Any]:
    """Return overrides with which the settings can be loaded before the embedded S3 runs."""
    return {"use_cloud_storage": False, "secret_key": secrets.token_urlsafe(48)}
