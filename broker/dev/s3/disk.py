"""Files, and directories of files, that appear whole: written aside, then moved to their place in one step."""

import json
import logging
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


class Disk:
    """The files below one directory.

    A stop of this process loses nothing that was moved to its place. A power cut may, unless `durable`: then each
    file, and the directory it was moved to, is flushed to the disk (fsync) first.
    """

    def __init__(self, root: Path, *, durable: bool = False) -> None:
        self.root = root
        self._durable = durable
        self._scratch = root / "incoming"
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir(parents=True)

    def scratch_path(self) -> Path:
        """Return a fresh path for bytes that are not in their place yet; the next start clears it."""
        return self._scratch / secrets.token_hex(16)

    def make_directory(self, path: Path) -> None:
        """Create a directory unless it exists."""
        if not path.is_dir():
            path.mkdir()
            self._flush(path.parent)

    def move(self, source: Path, target: Path) -> None:
        """Move a complete file to its place, and replace the file that is there; or a directory of flushed files."""
        self._flush(source)
        os.replace(source, target)
        self._flush(target.parent)

    def write_json(self, target: Path, document: Any) -> None:
        """Write a JSON document to its place."""
        scratch = self.scratch_path()
        scratch.write_text(json.dumps(document))
        self.move(scratch, target)

    def read_json(self, path: Path) -> Any | None:
        """Return a JSON document, or None if there is none; one that a power cut left incomplete is removed."""
        try:
            return json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except ValueError:
            log.warning("%s is incomplete: what it describes is lost", path)
            path.unlink()
            return None

    def remove(self, *paths: Path) -> None:
        """Remove files, and directories with what they hold; a missing one does no harm."""
        for path in paths:
            self.discard(path)
        for directory in {path.parent for path in paths}:
            self._flush(directory)

    def discard(self, path: Path) -> None:
        """Remove a file or a directory that the next start would clear, too: nothing is flushed."""
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def _flush(self, path: Path) -> None:
        if not self._durable:
            return
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
