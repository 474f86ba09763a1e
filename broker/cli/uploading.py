"""The output of `broker upload` for a file: its progress, then its link or the reason of its failure."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from broker.cli.terminal import complain, err, note, say, shown
from broker.client import Media
from broker.client.names import printable


@contextmanager
def progress_of(file: Path) -> Iterator[Callable[[int, int], object]]:
    """Show a progress bar, which is cleared after a failure; its function gets the bytes sent and the file's size."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err()) as progress:
        task = progress.add_task(shown(printable(file.name)), total=file.stat().st_size)
        progress.live.transient = True
        yield lambda sent, size: progress.update(task, completed=sent, total=size)
        progress.live.transient = False


def report(file: Path, media: Media, *, as_json: bool) -> None:
    """Print the link of a ready media."""
    expires_at = media.document["expires_at"]
    if as_json:
        facts = {"media_id": media.media_id, "signed_url": media.signed_url, "expires_at": expires_at}
        say(json.dumps({"file": printable(str(file)), "success": True, **facts}))
        return
    if media.signed_url is None:
        note(f"{media.media_id} is ready; the token has no permission to read it, so there is no link.")
        return
    note(f"{media.media_id} is ready; its link expires at {expires_at}:")
    say(media.signed_url)


def report_failure(file: Path, reason: str, *, as_json: bool, is_only: bool) -> None:
    """Print the reason of a failure, with the name of the file unless it is the only one."""
    name = printable(str(file))
    if as_json:
        say(json.dumps({"file": name, "success": False, "error": printable(reason)}))
    complain(printable(reason) if is_only else f"{name}: {printable(reason)}")


def stopped(file: Path, *, in_parts: bool) -> str:
    """Return the line after Ctrl-C."""
    name = printable(file.name)
    if in_parts:
        return f"Stopped. The parts of {name} that have arrived are kept; run the same command again to go on."
    return f"Stopped. {name} was not uploaded."
