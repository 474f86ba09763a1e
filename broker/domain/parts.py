"""The parts of a resumable upload: their layout, the digest of a judged list, and the ETag of what they compose.

Source: Amazon S3 User Guide, "Amazon S3 multipart upload limits".
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

MIB = 1024**2
MIN_PART_BYTES = 5 * MIB
"""S3's smallest part; only the last one may be smaller."""
MAX_PART_BYTES = 5 * 1024**3
"""S3's largest part, and the largest file of one POST."""
MAX_PARTS = 10_000
PARTS_PER_LIST = 1000
"""The number of parts that one listing shows. An upload has more only if its parts would pass MAX_PART_BYTES."""
MAX_COMPOSED_BYTES = MAX_PARTS * MAX_PART_BYTES
"""S3's largest object, 48.8 TiB."""

_MD5 = re.compile(r"[0-9a-f]{32}")


class StoredPart(NamedTuple):
    """One part as a listing shows it: its number from 1, size in bytes, and ETag without quotes."""

    number: int
    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class Layout:
    """The division of a file of `size` bytes into parts of `part_size` bytes; the last one takes the rest."""

    size: int
    part_size: int

    @property
    def count(self) -> int:
        """Return the number of parts."""
        return -(-self.size // self.part_size)

    def size_of(self, number: int) -> int:
        """Return the size of one part, in bytes; the first has number 1."""
        return min(self.part_size, self.size - (number - 1) * self.part_size)

    def missing(self, stored: Iterable[StoredPart]) -> list[int]:
        """Return the numbers of the parts that are not stored, in order."""
        there = {part.number for part in stored}
        return [number for number in range(1, self.count + 1) if number not in there]

    def differences(self, stored: Iterable[StoredPart]) -> str:
        """Return in words which part has another size than promised; empty if none has."""
        for part in stored:
            if part.size != self.size_of(part.number):
                return f"part {part.number} has {part.size} bytes, not {self.size_of(part.number)}"
        return ""


def part_size_for(size: int, preferred: int) -> int:
    """Return the size of the parts of a file: `preferred`, or whole mebibytes that keep the number of parts in bounds.

    An upload has at most PARTS_PER_LIST parts, or MAX_PARTS if they would otherwise pass MAX_PART_BYTES.
    """
    for count in (PARTS_PER_LIST, MAX_PARTS):
        grown = max(preferred, _whole_mebibytes(-(-size // count)))
        if grown <= MAX_PART_BYTES:
            return grown
    raise ValueError(f"{size} bytes do not fit into {MAX_PARTS} parts")


def _whole_mebibytes(size: int) -> int:
    return -(-size // MIB) * MIB


def list_digest(stored: Iterable[StoredPart]) -> str:
    """Return a digest of numbers, sizes and ETags, as 64 hex digits. It changes if any part is overwritten."""
    digest = hashlib.sha256()
    for number, size, etag in stored:
        digest.update(f"{number} {size} {etag}\n".encode())
    return digest.hexdigest()


def composed_etag(etags: Sequence[str]) -> str:
    """Return the ETag of an object composed of parts with these ETags: the MD5 of their MD5s, and their number.

    Source: Amazon S3 API Reference, "Object": ETag. It does not hold under SSE-KMS, nor on every other store.
    """
    digest = hashlib.md5(usedforsecurity=False)
    for etag in etags:
        digest.update(bytes.fromhex(etag) if is_md5(etag) else etag.encode())
    return f"{digest.hexdigest()}-{len(etags)}"


def is_md5(etag: str) -> bool:
    """Return whether an ETag has the form of an MD5, as that of an object that was posted at once."""
    return _MD5.fullmatch(etag) is not None


def as_ranges(numbers: Sequence[int], limit: int = 20) -> str:
    """Return ascending numbers in words, such as `1, 4-7, 9`; at most `limit` ranges."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        elif len(ranges) == limit:
            return ", ".join([*map(_range, ranges), "…"])
        else:
            ranges.append([number, number])
    return ", ".join(map(_range, ranges))


def _range(bounds: list[int]) -> str:
    first, last = bounds
    return str(first) if first == last else f"{first}-{last}"
