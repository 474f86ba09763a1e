"""Multipart uploads that are under way. They do not outlive the process."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Part:
    """One uploaded part: its bytes, `etag` unquoted, and its checksum, base64."""

    number: int
    path: Path
    size: int
    etag: str
    checksum: str
    modified_at: str


@dataclass(slots=True)
class Upload:
    """A multipart upload: what was said of the object at its beginning, and the parts so far.

    Parts may bring checksums of other algorithms, unless this one was `asked_for`.
    """

    id: str
    bucket: str
    key: str
    said: dict[str, str]
    tags: dict[str, str]
    algorithm: str
    asked_for: bool
    checksum_type: str
    started_at: str
    parts: dict[int, Part] = field(default_factory=dict)

    def discard(self) -> None:
        """Remove the bytes of all parts."""
        for part in self.parts.values():
            part.path.unlink(missing_ok=True)
