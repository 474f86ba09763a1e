"""Unfinished uploads, remembered on this machine so that the next `broker upload` of the same file goes on.

A file is the same if its path, size, date and type are, for the same broker and the subject of the token. Only the
Idempotency-Key of its request is kept: with it the broker names the media and the parts that are missing.
"""

import base64
import hashlib
import json
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG
from uuid import uuid4

from broker.client import BrokerProblem, Client, FileChanged, Issued, Media
from broker.client.names import printable

KEPT_SECONDS = 14 * 86_400
"""Longer than any resumable upload is accepted; older notes are removed."""
KEY_LENGTH = 36
"""The length of a note: the text of a UUID."""
NOTE = re.compile(r"[0-9a-f]{32}(\.part)?")
"""The names of notes, and of notes that are being written."""
RENEWED = frozenset({"upload-expired", "media-not-found", "idempotency-key-reused"})
"""The problems with which the broker answers a remembered upload that cannot go on; a new one can begin."""
ENDED = RENEWED | {"upload-rejected"}


class Unfinished:
    """The note about one file's upload, in `folder`."""

    def __init__(self, folder: Path, *, url: str, token: str, file: Path, content_type: str) -> None:
        """Find the note of `file`, if there is one. Raises OSError if the file cannot be examined."""
        facts = file.stat()
        identity = [url, _subject(token), os.fsencode(file.resolve()).hex(), facts.st_size, facts.st_mtime_ns]
        name = hashlib.sha256(json.dumps([*identity, content_type]).encode()).hexdigest()[:32]
        self._path = folder / name
        self._key = ""
        with suppress(OSError, UnicodeDecodeError):
            self._key = self._path.read_text("ascii").strip()

    @property
    def is_known(self) -> bool:
        """Return whether an earlier run began this upload."""
        return bool(self._key)

    def key(self) -> str:
        """Return the Idempotency-Key of the upload. A new one is durable before it is returned, if it can be."""
        if not self._key:
            self._key = str(uuid4())
            with suppress(OSError):  # without a note the upload works, and cannot be resumed by a later run
                self._write()
                _remove_old_notes(self._path.parent)
        return self._key

    def forget(self) -> None:
        """Remove the note; the next key is a new one."""
        self._key = ""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = self._path.with_suffix(".part")
        part.touch(mode=0o600)
        part.write_text(self._key, "ascii")
        part.replace(self._path)


def _remove_old_notes(folder: Path) -> None:
    """Remove the notes of uploads that cannot go on. `folder` may be one of the user's own; its other files stay."""
    for note in folder.iterdir():
        with suppress(OSError):  # another run may remove or rename it meanwhile
            facts = note.lstat()
            is_note = NOTE.fullmatch(note.name) and S_ISREG(facts.st_mode) and facts.st_size <= KEY_LENGTH
            if is_note and time.time() - facts.st_mtime > KEPT_SECONDS:
                note.unlink()


def upload_in_parts(
    client: Client,
    file: Path,
    content_type: str,
    unfinished: Unfinished,
    on_progress: Callable[[int, int], object] | None = None,
) -> Media:
    """Upload a file in parts, or the missing ones of an earlier run, and return the ready media.

    Raises ClientError and OSError; the next call with the same `unfinished` goes on, unless the upload has ended.
    """
    try:
        issued = _issued(client, file, content_type, unfinished)
        media = client.resume(issued, file, on_progress=on_progress)
    except (BrokerProblem, FileChanged) as error:
        if isinstance(error, FileChanged) or error.slug in ENDED:
            unfinished.forget()
        raise
    unfinished.forget()
    return media


def _issued(client: Client, file: Path, content_type: str, unfinished: Unfinished) -> Issued:
    """Issue the upload, or return the remembered one; issue a new one if that cannot go on."""

    def issue() -> Issued:
        size, name = file.stat().st_size, printable(file.name)
        return client.issue(content_type, size=size, filename=name, resumable=True, idempotency_key=unfinished.key())

    was_known = unfinished.is_known
    try:
        return issue()
    except BrokerProblem as problem:
        if not was_known or problem.slug not in RENEWED:
            raise
    unfinished.forget()
    return issue()


def _subject(token: str) -> str:
    """Return the subject that a JWT claims, unverified, or an empty text: a fresh token of the same user goes on."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return str(claims["sub"])
    except (LookupError, TypeError, ValueError):
        return ""
