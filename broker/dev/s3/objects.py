"""The objects of all buckets: the bytes of each version, with a JSON file of its facts beside them.

The bytes are one file, or a directory of the files of an object's parts (composed.py). They stream to a scratch file
and are moved to their place once all checks have passed, so that a refused or broken upload leaves nothing. Each
change of the index happens within one iteration of the event loop: a precondition that is checked in the same
iteration still holds when the object is stored.
"""

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO

from broker.dev.s3.checksums import FULL_OBJECT, Digests
from broker.dev.s3.composed import link_range, open_range
from broker.dev.s3.disk import Disk

NULL_VERSION = "null"


@dataclass(frozen=True, slots=True)
class ObjectPart:
    """One part of a multipart object: its number, size, and checksum (base64)."""

    number: int
    size: int
    checksum: str


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """One version of an object, or a delete marker. `etag` is unquoted, `modified_at` ISO 8601 in UTC.

    `parts` and `upload_id` are those of the multipart upload that the object was made of, if any.
    """

    key: str
    version_id: str
    sequence: int
    modified_at: str
    size: int = 0
    etag: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)
    checksum_type: str = FULL_OBJECT
    storage_class: str = "STANDARD"
    tags: dict[str, str] = field(default_factory=dict)
    delete_marker: bool = False
    parts: list[ObjectPart] = field(default_factory=list)
    upload_id: str = ""

    @property
    def modified(self) -> datetime:
        """Return the instant at which the version was stored."""
        return datetime.fromisoformat(self.modified_at)

    @property
    def sequencer(self) -> str:
        """Return the value that orders the events of one key: upper-case hex digits."""
        return f"{self.sequence:018X}"


class Incoming:
    """Bytes that are being received; leaving the context removes them unless they were moved to their place."""

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
        """Make all bytes readable under `path`."""
        self._file.close()


class ObjectStore:
    """The versions of all objects, indexed by bucket and key."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self._objects = disk.root / "objects"
        disk.make_directory(self._objects)
        self._buckets: dict[str, dict[str, list[ObjectVersion]]] = {}
        self._sequence = 0
        for directory in self._objects.iterdir():
            self._load(directory)

    def incoming(self, *algorithms: str) -> Incoming:
        """Open a file for new bytes, whose checksums by the given algorithms are computed as they pass."""
        return Incoming(self.disk.scratch_path(), algorithms)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Give a fresh path for bytes; leaving the context removes them unless they were moved to their place."""
        path = self.disk.scratch_path()
        try:
            yield path
        finally:
            self.disk.discard(path)

    def next_sequence(self) -> int:
        """Return a number that is larger than every earlier one, across restarts too."""
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
        """Return the object that a plain GET reads, or None."""
        latest = self.latest(bucket, key)
        return None if latest is None or latest.delete_marker else latest

    def version(self, bucket: str, key: str, version_id: str) -> ObjectVersion | None:
        """Return a version by its id, or None."""
        return next((v for v in self.versions(bucket, key) if v.version_id == version_id), None)

    def path(self, bucket: str, version: ObjectVersion) -> Path:
        """Return the file, or the directory of files, that holds the bytes of a version."""
        return self._objects / bucket / f"{version.sequence:x}"

    def open(self, bucket: str, version: ObjectVersion, first: int, size: int) -> io.BufferedReader:
        """Open a range of a version's bytes; it stays readable after the object is replaced or deleted.

        The files of a composed object are opened one after another, so they get second names until then.
        """
        path = self.path(bucket, version)
        if not path.is_dir():
            return open_range(path, first, size)
        links = self.disk.scratch_path()
        link_range(path, links, first, size)
        return open_range(links, first, size, on_close=partial(self.disk.discard, links))

    def add(self, bucket: str, version: ObjectVersion, data: Path | None, *, versioned: bool) -> None:
        """Store a version and its bytes; without versioning it replaces the null version."""
        self.disk.make_directory(self._objects / bucket)
        if data is not None:
            self.disk.move(data, self.path(bucket, version))
        self._write_facts(bucket, version)
        versions = self._buckets.setdefault(bucket, {}).setdefault(version.key, [])
        replaced = [] if versioned else [v for v in versions if v.version_id == NULL_VERSION]
        versions.append(version)
        for old in replaced:
            self.remove(bucket, old)

    def update(self, bucket: str, version: ObjectVersion) -> None:
        """Replace the facts of a version, such as its tags; its bytes stay."""
        self._write_facts(bucket, version)
        versions = self._buckets[bucket][version.key]
        versions[:] = [version if v.sequence == version.sequence else v for v in versions]

    def remove(self, bucket: str, version: ObjectVersion) -> None:
        """Remove a version and its bytes."""
        keys = self._buckets[bucket]
        keys[version.key] = [v for v in keys[version.key] if v.sequence != version.sequence]
        if not keys[version.key]:
            del keys[version.key]
        self.disk.remove(self._facts_path(bucket, version), self.path(bucket, version))

    def is_empty(self, bucket: str) -> bool:
        """Tell whether a bucket holds neither versions nor delete markers."""
        return not self._buckets.get(bucket)

    def _facts_path(self, bucket: str, version: ObjectVersion) -> Path:
        return self.path(bucket, version).with_suffix(".json")

    def _write_facts(self, bucket: str, version: ObjectVersion) -> None:
        self.disk.write_json(self._facts_path(bucket, version), asdict(version))

    def _load(self, directory: Path) -> None:
        bucket = directory.name
        for version in sorted(self._read_facts(directory), key=lambda version: version.sequence):
            versions = self._buckets.setdefault(bucket, {}).setdefault(version.key, [])
            versions.append(version)
            self._sequence = max(self._sequence, version.sequence)
            if version.version_id == NULL_VERSION:
                # A stop between storing and replacing leaves two null versions: the newer one counts.
                for old in [v for v in versions[:-1] if v.version_id == NULL_VERSION]:
                    self.remove(bucket, old)
        stored = {self.path(bucket, v) for vs in self._buckets.get(bucket, {}).values() for v in vs}
        for path in directory.iterdir():
            if path.suffix != ".json" and path not in stored:
                self.disk.remove(path)

    def _read_facts(self, directory: Path) -> Iterator[ObjectVersion]:
        for path in directory.glob("*.json"):
            facts = self.disk.read_json(path)
            if facts is not None:
                parts = [ObjectPart(**part) for part in facts.pop("parts", [])]
                yield ObjectVersion(**facts, parts=parts)
