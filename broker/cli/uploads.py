"""`broker upload`: upload videos, small ones by one form and large ones in parts, with progress on standard error."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli.terminal import err, note, refuse, say

if TYPE_CHECKING:
    from rich.progress import Progress

    from broker.cli.upload import UploadClient, Uploaded

MIN_RESUMABLE_BYTES = 32 * 1024**2
"""Files of this size and larger are uploaded in parts, as by the browser helper."""
INTERRUPTED = 130
"""The exit status after Ctrl-C: 128 and the number of SIGINT, as shells report it."""


def upload(
    files: Annotated[list[Path], typer.Argument(help="The videos.", exists=True, dir_okay=False, readable=True)],
    url: Annotated[
        str, typer.Option(envvar="BROKER_URL", help="The URL of the broker's routes.")
    ] = "http://127.0.0.1:8000/api/v1/s3-media",
    token: Annotated[str | None, typer.Option(envvar="BROKER_TOKEN", help="Your token.")] = None,
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
    from broker.cli.upload import UploadClient, type_of
    from broker.cli.uploading.failure import UploadFailed
    from broker.client.wire import bare_token

    if not token or token.isspace():
        refuse("BROKER_TOKEN: should be your token (or pass --token)")
    try:
        token = bare_token(token)
    except ValueError as error:
        refuse(f"BROKER_TOKEN, --token: {error}")
    types = {file: content_type or type_of(file.name) for file in files}
    for file, kind in types.items():
        if kind is None:
            name = printable(file.name)
            refuse(f"--content-type: should be given, because the name {name!r} has no known extension")
    folder = state_dir or Path(typer.get_app_dir("s3-media-broker")) / "uploads"
    failed = False
    with UploadClient(url, token) as client:
        for file, kind in types.items():
            sending = _Sending(client, url, token, file, kind or "", connections, folder)
            in_parts = resume and file.stat().st_size >= MIN_RESUMABLE_BYTES
            try:
                uploaded = sending.in_parts() if in_parts else sending.in_one_form()
            except (UploadFailed, OSError) as error:
                failed = True
                _report_failure(file, str(error), as_json=as_json, is_only=len(files) == 1)
            except KeyboardInterrupt:
                refuse(_stopped(file, in_parts=in_parts), status=INTERRUPTED)
            else:
                _report(file, uploaded, as_json=as_json)
    if failed:
        raise typer.Exit(1)


class _Sending:
    """One file on its way, with a progress bar that is cleared after a failure."""

    def __init__(
        self, client: "UploadClient", url: str, token: str, file: Path, kind: str, connections: int, folder: Path
    ) -> None:
        self._client = client
        self._url = url
        self._token = token
        self._file = file
        self._kind = kind
        self._connections = connections
        self._folder = folder
        self._name = printable(file.name)

    def in_one_form(self) -> "Uploaded":
        """Upload the file by one form. Raises UploadFailed and OSError."""
        with self._progress() as (progress, _), self._file.open("rb") as opened:
            size = self._file.stat().st_size
            wrapped: Any = progress.wrap_file(opened, task_id=progress.task_ids[0], total=size)
            return self._client.upload(wrapped, name=self._name, size=size, content_type=self._kind)

    def in_parts(self) -> "Uploaded":
        """Upload the missing parts of the file. Raises UploadFailed and OSError."""
        from broker.cli.uploading.unfinished import Unfinished

        unfinished = Unfinished(
            self._folder, url=self._url, token=self._token, file=self._file, content_type=self._kind
        )
        with self._progress() as (progress, task):
            return self._client.upload_in_parts(
                self._file,
                name=self._name,
                content_type=self._kind,
                unfinished=unfinished,
                connections=self._connections,
                on_progress=lambda size: progress.advance(task, size),
            )

    @contextmanager
    def _progress(self) -> Iterator[tuple["Progress", Any]]:
        from rich.markup import escape
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=err()) as progress:
            task = progress.add_task(escape(self._name), total=self._file.stat().st_size)
            progress.live.transient = True
            yield progress, task
            progress.live.transient = False


def printable(name: str) -> str:
    """Return a file name as valid Unicode; bytes that are not UTF-8 become U+FFFD."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _report(file: Path, uploaded: "Uploaded", *, as_json: bool) -> None:
    if as_json:
        facts = {"media_id": uploaded.media_id, "signed_url": uploaded.signed_url, "expires_at": uploaded.expires_at}
        say(json.dumps({"file": printable(str(file)), "success": True, **facts}))
        return
    note(f"{uploaded.media_id} is ready; its link expires at {uploaded.expires_at}:")
    say(uploaded.signed_url)


def _report_failure(file: Path, reason: str, *, as_json: bool, is_only: bool) -> None:
    name = printable(str(file))
    if as_json:
        say(json.dumps({"file": name, "success": False, "error": printable(reason)}))
    line = printable(reason) if is_only else f"{name}: {printable(reason)}"
    err().print(line, style="red", soft_wrap=True, highlight=False, markup=False)


def _stopped(file: Path, *, in_parts: bool) -> str:
    name = printable(file.name)
    if in_parts:
        return f"Stopped. The parts of {name} that have arrived are kept; run the same command again to go on."
    return f"Stopped. {name} was not uploaded."
