"""Objects on disk: each version is a file of bytes with a file of facts beside it.

The bytes stream to `incoming/` and are moved in one step when everything about them was checked, so that a
refused or broken upload leaves nothing. All changes of the index happen within one turn of the event loop:
whoever checks a precondition and stores in the same turn does so atomically.
"""

import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from broker.dev.s3.checksums import Digests

log = logging.getLogger(__name__)
NULL_VERSION = "null"


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """One version of an object, or a delete marker. `etag` is unquoted, `modified_at` ISO 8601 in UTC."""

    key: str
    version_id: str
    sequence: int
    modified_at: str
    size: int = 0
    etag: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)
    checksum_type: str = "FULL_OBJECT"
    storage_class: str = "STANDARD"
    tags: dict[str, str] = field(default_factory=dict)
    delete_marker: bool = False

    @property
    def modified(self) -> datetime:
        """Return when it was stored."""
        return datetime.fromisoformat(self.modified_at)

    @property
    def sequencer(self) -> str:
        """Return what orders the events of one key: upper-case hex digits."""
        return f"{self.sequence:018X}"


class Incoming:
    """Bytes on their way to become an object; leaving the context without `keep` removes them."""

    def __init__(self, path: Path, algorithms: tuple[str, ...]) -> None:
        self.path = path
        self.digests = Digests(algorithms)
        self._file: BinaryIO = path.open("wb")

    def __enter__(self) -> "Incoming":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        """Append the next bytes."""
        self.digests.update(data)
        self._file.write(data)

    def close(self) -> None:
        """Make the bytes readable under `path`."""
        self._file.close()


class ObjectStore:
    """Hold the objects of all buckets under one directory."""

    def __init__(self, root: Path) -> None:
        self._objects, self._incoming = root / "objects", root / "incoming"
        shutil.rmtree(self._incoming, ignore_errors=True)
        self._incoming.mkdir(parents=True)
        self._objects.mkdir(exist_ok=True)
        self._buckets: dict[str, dict[str, list[ObjectVersion]]] = {}
        self._sequence = 0
        for directory in self._objects.iterdir():
            self._load(directory)

    def incoming(self, *algorithms: str) -> Incoming:
        """Open a file for new bytes, of which the given checksums are computed."""
        return Incoming(self.scratch_path(), algorithms)

    def scratch_path(self) -> Path:
        """Return a fresh path beside the incoming bytes; it is cleared at the next start."""
        return self._incoming / secrets.token_hex(16)

    def next_sequence(self) -> int:
        """Return a number that is larger than all before, across restarts."""
        self._sequence = max(self._sequence + 1, time.time_ns())
        return self._sequence

    def keys(self, bucket: str) -> list[str]:
        """Return every key that has a version or delete marker, in UTF-8 binary order."""
        return sorted(self._buckets.get(bucket, {}))

    def versions(self, bucket: str, key: str) -> list[ObjectVersion]:
        """Return the versions of a key, the newest first."""
        return list(reversed(self._buckets.get(bucket, {}).get(key, [])))

    def latest(self, bucket: str, key: str) -> ObjectVersion | None:
        """Return the newest version of a key, which may be a delete marker."""
        versions = self._buckets.get(bucket, {}).get(key)
        return versions[-1] if versions else None

    def current(self, bucket: str, key: str) -> ObjectVersion | None:
        """Return the object that a plain GET sees, if there is one."""
        latest = self.latest(bucket, key)
        return None if latest is None or latest.delete_marker else latest

    def version(self, bucket: str, key: str, version_id: str) -> ObjectVersion | None:
        """Return one version by its id."""
        return next((v for v in self.versions(bucket, key) if v.version_id == version_id), None)

    def path(self, bucket: str, version: ObjectVersion) -> Path:
        """Return the file that holds the bytes of a version."""
        return self._objects / bucket / f"{version.sequence:x}"

    def open(self, bucket: str, version: ObjectVersion) -> BinaryIO:
        """Open the bytes of a version; they stay readable when the object is replaced meanwhile."""
        return self.path(bucket, version).open("rb")

    def add(self, bucket: str, version: ObjectVersion, data: Path | None, *, versioned: bool) -> None:
        """Store a version and its bytes; without versioning it replaces the null version."""
        directory = self._objects / bucket
        directory.mkdir(exist_ok=True)
        if data is not None:
            os.replace(data, self.path(bucket, version))
        self._write_facts(bucket, version)
        versions = self._buckets.setdefault(bucket, {}).setdefault(version.key, [])
        replaced = [] if versioned else [v for v in versions if v.version_id == NULL_VERSION]
        versions.append(version)
        for old in replaced:
            self.remove(bucket, old)

    def update(self, bucket: str, version: ObjectVersion) -> None:
        """Replace the facts of a version, such as its tags, with its bytes as they are."""
        self._write_facts(bucket, version)
        versions = self._buckets[bucket][version.key]
        versions[:] = [version if v.sequence == version.sequence else v for v in versions]

    def remove(self, bucket: str, version: ObjectVersion) -> None:
        """Remove one version for good."""
        keys = self._buckets[bucket]
        keys[version.key] = [v for v in keys[version.key] if v.sequence != version.sequence]
        if not keys[version.key]:
            del keys[version.key]
        self._facts_path(bucket, version).unlink(missing_ok=True)
        self.path(bucket, version).unlink(missing_ok=True)

    def is_empty(self, bucket: str) -> bool:
        """Tell whether a bucket holds neither versions nor delete markers."""
        return not self._buckets.get(bucket)

    def _facts_path(self, bucket: str, version: ObjectVersion) -> Path:
        return self.path(bucket, version).with_suffix(".json")

    def _write_facts(self, bucket: str, version: ObjectVersion) -> None:
        scratch = self.scratch_path()
        scratch.write_text(json.dumps(asdict(version)))
        os.replace(scratch, self._facts_path(bucket, version))

    def _load(self, directory: Path) -> None:
        bucket = directory.name
        found = sorted(_read_facts(directory), key=lambda version: version.sequence)
        for version in found:
            versions = self._buckets.setdefault(bucket, {}).setdefault(version.key, [])
            versions.append(version)
            self._sequence = max(self._sequence, version.sequence)
            if version.version_id == NULL_VERSION:
                # A stop between storing and replacing leaves two null versions: the newer one counts.
                for old in [v for v in versions[:-1] if v.version_id == NULL_VERSION]:
                    self.remove(bucket, old)
        held = {self.path(bucket, v) for vs in self._buckets.get(bucket, {}).values() for v in vs}
        for path in directory.iterdir():
            if path.suffix != ".json" and path not in held:
                path.unlink()


def _read_facts(directory: Path) -> Iterator[ObjectVersion]:
    for path in directory.glob("*.json"):
        try:
            facts = json.loads(path.read_text())
        except ValueError:
            # A machine that lost its power while it wrote: nothing says what the bytes are.
            log.warning("%s was cut short: its object is gone", path)
            path.unlink()
            continue
        yield ObjectVersion(**facts)
