"""The command line: init, serve, dev, worker, doctor, migrate, token, upload, media, webhooks, erase.

Each command imports its own dependencies: `broker upload` starts without FastAPI, botocore and SQLAlchemy.
"""

import asyncio
import io
import sys
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from broker.cli.erase import erase
from broker.cli.media import media
from broker.cli.operating import operator_settings
from broker.cli.terminal import ask, errors_as_exit_status, note, out, refuse, say
from broker.cli.upload import upload
from broker.cli.webhooks import webhooks

DATA_DIR = Path("var")

app = typer.Typer(
    help="Let clients upload video directly to S3, check the uploads, and issue playback links.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(media)
app.add_typer(webhooks)
app.command()(upload)
app.command()(erase)


def _print_version(wanted: bool) -> None:
    if wanted:
        out().print(f"broker {metadata.version('s3-media-broker')}", highlight=False)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Let clients upload video straight to S3, check what arrived, and hand out playback links."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names may hold bytes that are no text


@app.command("init")
def write_first_settings(
    bucket: Annotated[str | None, typer.Option(help="The bucket's name; asked for if it is not given.")] = None,
    region: Annotated[str | None, typer.Option(help="The bucket's region; asked for if it is not given.")] = None,
    endpoint_url: Annotated[
        str | None, typer.Option(help="The address of a store other than AWS, such as Ceph RGW.")
    ] = None,
    database_url: Annotated[
        str | None, typer.Option(help="postgresql://…; by default the SQLite file broker.db, for one process.")
    ] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(help="The origin of a page that uploads, such as https://app.example; repeatable."),
    ] = None,
) -> None:
    """Write a first .env with a new secret, and list what is still missing. An existing .env is left unchanged."""
    with errors_as_exit_status():
        from broker import load_settings
        from broker.cli import init

        init.refuse_existing()
        bucket = bucket or ask("The bucket's name", option="--bucket")
        region = region or ask("Its region, such as eu-central-1", option="--region")
        values = init.first_values(
            bucket=bucket,
            region=region,
            endpoint_url=endpoint_url,
            database_url=database_url,
            origins=tuple(origin or ()),
        )
        init.write(values)
        say(f"Wrote {', '.join(values)} to {init.ENV_FILE}, which only you can read.\n")
        for name, advice in init.missing(load_settings()):
            say(f"  {name + ':':<10} {advice}")
    say("\nNext: `broker migrate`, `broker doctor`, `broker serve`.")


@app.command()
def serve(
    host: Annotated[
        str | None, typer.Option(help="The address to listen on; by default BROKER_HOST, or 127.0.0.1.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(help="The port to listen on, 0: a free one; by default BROKER_PORT, or 8000.", min=0, max=65535),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="The number of processes; by default one per core on PostgreSQL, and 1 on SQLite.", min=1),
    ] = None,
    graceful_seconds: Annotated[int, typer.Option(help="How long requests may take to end on SIGTERM.", min=0)] = 30,
    keep_alive_seconds: Annotated[
        int,
        typer.Option(
            help="How long an idle connection is kept; choose more than the load balancer's idle timeout.", min=1
        ),
    ] = 75,
    embedded_s3: Annotated[
        bool, typer.Option("--embedded-s3", help="With USE_CLOUD_STORAGE=false: run the S3 of `broker dev` beside it.")
    ] = False,
    data_dir: Annotated[Path, typer.Option(help="The directory of the embedded S3's objects.")] = DATA_DIR,
) -> None:
    """Serve the broker in production. Run `broker migrate` first; `broker dev` needs no settings."""
    with errors_as_exit_status():
        from broker import load_settings
        from broker.server.serve import serve as run_server

        embedded = None
        if embedded_s3:
            from broker.cli.dev import beside_s3

            embedded = partial(beside_s3, data_dir=data_dir)
        settings = load_settings()
        run_server(
            settings,
            embedded_s3=embedded,
            host=settings.host if host is None else host,
            port=settings.port if port is None else port,
            workers=workers,
            timeout_graceful_shutdown=graceful_seconds,
            timeout_keep_alive=keep_alive_seconds,
        )


@app.command()
def dev(
    port: Annotated[
        int | None,
        typer.Option(
            help="The port on 127.0.0.1: by default 8000, or 9000 with --s3-only. If it is taken, a free one.",
            min=0,
            max=65535,
        ),
    ] = None,
    data_dir: Annotated[Path, typer.Option(help="The directory of records and objects.")] = DATA_DIR,
    s3_only: Annotated[bool, typer.Option("--s3-only", help="Serve only the S3, and print its keys.")] = False,
    s3_keys: Annotated[
        str,
        typer.Option(
            envvar="BROKER_DEV_S3_KEYS",
            help="The keys of the S3's users, as ID:SECRET,ID:SECRET. The first is the broker's. "
            "Without this option, one key is made and kept in the data directory.",
        ),
    ] = "",
) -> None:
    """Serve everything on this machine: the broker, an S3, and a console."""
    with errors_as_exit_status():
        from broker.cli.dev import run_broker, run_s3

        if s3_only:
            run_s3(data_dir=data_dir, port=9000 if port is None else port, s3_keys=s3_keys, console=out())
        else:
            run_broker(data_dir=data_dir, port=8000 if port is None else port, s3_keys=s3_keys, console=out())


@app.command()
def worker() -> None:
    """Run the background jobs: sweep unfinished and unused uploads, process S3 events, and send webhooks.

    One process beside `broker serve` is enough. On SQLite, `serve` runs them itself with BROKER_SWEEP=true.
    """
    with errors_as_exit_status():
        from broker import load_settings
        from broker.server.serve import work_until_stopped

        asyncio.run(work_until_stopped(load_settings()))


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Examine this deployment, try it out, and print a fix for each fault. The exit status is 1 if a check fails."""
    with errors_as_exit_status():
        from broker.cli.checkup import check_up
        from broker.doctor import report

        findings = asyncio.run(check_up(operator_settings()))
    if as_json:
        say(report.as_json(findings))
    else:
        report.show(findings, out())
    if report.has_failed(findings):
        raise typer.Exit(1)


@app.command("migrate")
def migrate_database() -> None:
    """Migrate the database to the schema of this version: before the first `broker serve`, and after each upgrade."""
    with errors_as_exit_status():
        from broker.domain.origin import bare
        from broker.settings import load_database_settings
        from broker.store import migrate, pending_revision

        settings = load_database_settings()
        if "database_url" not in settings.model_fields_set:
            note(f"BROKER_DATABASE_URL is not set, so the database is the SQLite file {Path('broker.db').resolve()}.")
        revision = pending_revision(settings.database_url, schema=settings.database_schema)
        migrate(settings.database_url, schema=settings.database_schema, tell=note)
    say(f"{bare(settings.database_url)} is {f'now at revision {revision}' if revision else 'up to date'}.")


@app.command("token")
def print_token(
    sub: Annotated[str, typer.Option(help="The subject: the owner of media that are uploaded with it.")] = "dev",
    scope: Annotated[
        str, typer.Option(help="The permissions, separated by spaces; also media:delegate and media:admin.")
    ] = "media:upload media:read media:delete",
    ttl: Annotated[int, typer.Option(help="The token's lifetime in seconds.", min=1, max=100 * 365 * 86_400)] = 3600,
) -> None:
    """Print a token that is signed with SECRET_KEY and that these settings accept, to try the broker by hand."""
    with errors_as_exit_status():
        from broker import load_settings
        from broker.dev.tokens import mint_token
        from broker.wiring import token_rules

        settings = load_settings(use_cloud_storage=False)
        rules = token_rules(settings)
        _require_owner(sub)
        permissions = _permissions(scope, prefix=rules.claims.prefix)
        secret = settings.secret_key.get_secret_value()
        token = mint_token(secret, owner=sub, scope=permissions, ttl_seconds=ttl, now=datetime.now(UTC), rules=rules)
    say(token)


def _permissions(scope: str, *, prefix: str) -> str:
    """Return the permissions of a scope without their prefix. Refuse a scope with an unknown permission."""
    from broker.api.auth.caller import GRANTS

    names = [name.removeprefix(prefix) for name in scope.split()]
    if not names or not GRANTS.keys() >= set(names):
        refuse(f"--scope: should name permissions, separated by spaces: {', '.join(GRANTS)}")
    return " ".join(names)


def _require_owner(sub: str) -> None:
    """Refuse an owner that the broker does not accept."""
    from broker.domain.access.owners import is_owner

    if not is_owner(sub):
        refuse("--sub: should be 1 to 255 printable characters, with no space at either end")
