"""Multipart uploads in progress and their parts: a directory for each upload, which outlives the process."""

import asyncio
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from broker.dev.s3.checksums import DEFAULT_ALGORITHM, FULL_OBJECT
from broker.dev.s3.errors import S3Error, invalid_argument
from broker.dev.s3.objects import ObjectStore, ObjectVersion

PART_NUMBER_MAX = 10_000
_FACTS = "upload.json"


@dataclass(frozen=True, slots=True)
class Part:
    """An uploaded part: its `etag` unquoted, and its checksum by the upload's algorithm.

    Its bytes are in `file`, which is a directory if the part is a copy of a composed object.
    """

    number: int
    file: str
    size: int
    etag: str
    checksum: str
    modified_at: str


@dataclass(slots=True)
class Upload:
    """A multipart upload: the facts of its future object, and the parts so far.

    `named_algorithm` is empty if Create named none: parts may then declare checksums by any algorithm, and the object
    gets S3's default. `replaces` is the sequence of the key's latest version at Create, or 0.
    """

    id: str
    bucket: str
    key: str
    sequence: int
    started_at: str
    headers: dict[str, str]
    metadata: dict[str, str]
    storage_class: str
    tags: dict[str, str]
    named_algorithm: str
    checksum_type: str
    replaces: int
    parts: dict[int, Part] = field(default_factory=dict)
    # Completing, aborting and storing a part exclude one another.
    lock: asyncio.Lock = field(default_factory=asyncio.Lock, compare=False)

    @property
    def algorithm(self) -> str:
        """Return the algorithm by which every part's checksum is kept."""
        return self.named_algorithm or DEFAULT_ALGORITHM

    @property
    def full_object(self) -> bool:
        """Tell whether the object's checksum is computed over its bytes, not over the checksums of its parts."""
        return self.checksum_type in ("", FULL_OBJECT)

    def facts(self) -> dict[str, Any]:
        """Return what describes the upload, without its parts."""
        return {name: getattr(self, name) for name in self.__slots__ if name not in ("parts", "lock")}


class Uploads:
    """The multipart uploads in progress, by id.

    An upload that was completed just before a stop is not in progress any more: its object bears its id.
    """

    def __init__(self, store: ObjectStore, part_bytes_min: int) -> None:
        self.part_bytes_min = part_bytes_min
        self._store, self._disk = store, store.disk
        self._root = store.disk.root / "uploads"
        self._disk.make_directory(self._root)
        self._uploads: dict[str, Upload] = {}
        for directory in self._root.iterdir():
            upload = self._load(directory)
            if upload is None or completed_version(store, upload.bucket, upload.key, upload.id) is not None:
                shutil.rmtree(directory)
            else:
                self._uploads[upload.id] = upload

    def __contains__(self, upload: Upload) -> bool:
        return self._uploads.get(upload.id) is upload

    def find(self, bucket: str, key: str, upload_id: str) -> Upload | None:
        """Return the upload of a key in progress that has an id, or None."""
        upload = self._uploads.get(upload_id)
        return upload if upload is not None and (upload.bucket, upload.key) == (bucket, key) else None

    def of_bucket(self, bucket: str) -> list[Upload]:
        """Return the uploads of a bucket in S3's order: by key in UTF-8 binary order, the oldest of a key first."""
        uploads = [upload for upload in self._uploads.values() if upload.bucket == bucket]
        return sorted(uploads, key=lambda upload: (upload.key.encode(), upload.sequence))

    def begin(self, upload: Upload) -> None:
        """Add an upload without parts."""
        self._disk.make_directory(self._root / upload.id)
        self._disk.write_json(self._root / upload.id / _FACTS, upload.facts())
        self._uploads[upload.id] = upload

    def add_part(self, upload: Upload, data: Path, **facts: Any) -> Part:
        """Move the bytes of a part to their place, and replace an earlier part of the same number."""
        directory = self._root / upload.id
        part = Part(file=secrets.token_hex(16), **facts)
        self._disk.move(data, directory / part.file)
        self._disk.write_json(directory / f"{part.number}.json", asdict(part))
        replaced = upload.parts.get(part.number)
        upload.parts[part.number] = part
        if replaced is not None:
            self._disk.remove(directory / replaced.file)
        return part

    def path(self, upload: Upload, part: Part) -> Path:
        """Return the file, or the directory of files, that holds the bytes of a part."""
        return self._root / upload.id / part.file

    def remove(self, upload: Upload) -> None:
        """Remove an upload and its parts."""
        del self._uploads[upload.id]
        # The facts go first: a directory without them is removed at the next start.
        self._disk.remove(self._root / upload.id / _FACTS)
        shutil.rmtree(self._root / upload.id)

    def remove_bucket(self, bucket: str) -> None:
        """Remove the uploads of a deleted bucket."""
        for upload in self.of_bucket(bucket):
            self.remove(upload)

    def _load(self, directory: Path) -> Upload | None:
        facts = self._disk.read_json(directory / _FACTS)
        if facts is None:
            return None
        upload = Upload(**facts)
        for path in directory.glob("[0-9]*.json"):
            if (part := self._disk.read_json(path)) is not None:
                upload.parts[part["number"]] = Part(**part)
        files = {part.file for part in upload.parts.values()}
        for path in directory.iterdir():
            if path.suffix != ".json" and path.name not in files:
                self._disk.remove(path)
        return upload


def completed_version(store: ObjectStore, bucket: str, key: str, upload_id: str) -> ObjectVersion | None:
    """Return the version of a key that a multipart upload was completed to, or None."""
    return next((v for v in store.versions(bucket, key) if v.upload_id == upload_id), None)


def part_number(params: Mapping[str, str]) -> int:
    """Return the `partNumber` of a request's query, or refuse it."""
    number = params.get("partNumber", "")
    if not (number.isascii() and number.isdigit()) or not 1 <= int(number) <= PART_NUMBER_MAX:
        raise invalid_argument(
            f"Part number must be an integer between 1 and {PART_NUMBER_MAX}, inclusive", "partNumber", number
        )
    return int(number)


def no_such_upload(upload_id: str) -> S3Error:
    """Refuse an upload that does not exist, or no longer."""
    return S3Error("NoSuchUpload", UploadId=upload_id)


def parts_in_order(upload: Upload) -> Iterator[Part]:
    """Yield the parts by number."""
    return (upload.parts[number] for number in sorted(upload.parts))
