"""`broker upload`: upload videos, small ones by one form and large ones in parts, with progress on standard error."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from broker.cli.terminal import refuse

INTERRUPTED = 130
"""The exit status after Ctrl-C: 128 and the number of SIGINT, as shells report it."""


def upload(
    files: Annotated[list[Path], typer.Argument(help="The videos.", exists=True, dir_okay=False, readable=True)],
    url: Annotated[
        str, typer.Option(envvar="BROKER_URL", help="The URL of the broker's routes, with their prefix.")
    ] = "http://127.0.0.1:8000/api/v1/s3-media",
    token: Annotated[
        str | None, typer.Option(envvar="BROKER_TOKEN", help="Your bearer token; `broker token` prints one to try.")
    ] = None,
    content_type: Annotated[
        str | None, typer.Option(help="The videos' type; by default, from each file's name.")
    ] = None,
    resume: Annotated[
        bool, typer.Option(help="Whether to upload large files in parts, and to go on where an earlier run stopped.")
    ] = True,
    connections: Annotated[int, typer.Option(help="How many parts are sent at a time.", min=1, max=32)] = 4,
    state_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="BROKER_UPLOAD_STATE",
            help="The directory that remembers unfinished uploads; by default, in your configuration directory.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON for each file.")] = False,
) -> None:
    """Upload videos, and print a playback link for each.

    After Ctrl-C, a crash or a lost network, the same command sends only the missing parts of a large file.
    """
    from broker.cli.unfinished import Unfinished, upload_in_parts
    from broker.cli.uploading import progress_of, report, report_failure, stopped
    from broker.client import Client, ClientError, content_type_of
    from broker.client.asynchronous import RESUMABLE_OVER
    from broker.client.names import printable
    from broker.client.wire import bare_token

    if not token or token.isspace():
        refuse("BROKER_TOKEN: should be your token (or pass --token); `broker token` prints one to try")
    try:
        token = bare_token(token)
    except ValueError as error:
        refuse(f"BROKER_TOKEN, --token: {error}")
    types: dict[Path, str] = {}
    for file in files:
        kind = content_type or content_type_of(file.name)
        if kind is None:
            name = printable(file.name)
            refuse(f"--content-type: should be given, because the name {name!r} has no known extension")
        types[file] = kind
    folder = state_dir or Path(typer.get_app_dir("s3-media-broker")) / "uploads"
    failed = False
    with Client(url, token, connections=connections) as client:
        for file, kind in types.items():
            in_parts = False
            try:
                in_parts = resume and file.stat().st_size > RESUMABLE_OVER
                with progress_of(file) as on_progress:
                    if in_parts:
                        unfinished = Unfinished(folder, url=url, token=token, file=file, content_type=kind)
                        media = upload_in_parts(client, file, kind, unfinished, on_progress)
                    else:
                        media = client.upload(
                            file, content_type=kind, resumable_over=sys.maxsize, on_progress=on_progress
                        )
            except (ClientError, OSError) as error:
                failed = True
                report_failure(file, str(error), as_json=as_json, is_only=len(files) == 1)
            except KeyboardInterrupt:
                refuse(stopped(file, in_parts=in_parts), status=INTERRUPTED)
            else:
                report(file, media, as_json=as_json)
    if failed:
        raise typer.Exit(1)
