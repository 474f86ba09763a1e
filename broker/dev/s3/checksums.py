"""Object checksums: the algorithms, the digests of passing bytes, and the checks of declared values.

Source: Amazon S3 User Guide, "Checking object integrity in Amazon S3".
"""

import base64
import binascii
import hashlib
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from awscrt import checksums as crt

from broker.dev.s3.errors import S3Error

HEADER_PREFIX = "x-amz-checksum-"
TYPE_HEADER = HEADER_PREFIX + "type"
DEFAULT_ALGORITHM = "CRC64NVME"
COMPOSITE, FULL_OBJECT = "COMPOSITE", "FULL_OBJECT"
_NO_VALUES = frozenset({TYPE_HEADER, HEADER_PREFIX + "algorithm", HEADER_PREFIX + "mode"})


class Digest(Protocol):
    """The methods that `hashlib` objects share with the CRCs and xxHashes below."""

    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class _Crc:
    def __init__(self, function: Callable[[bytes, int], int], width: int) -> None:
        self._function, self._width, self._value = function, width, 0

    def update(self, data: bytes, /) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._width, "big")


class _XxHash:
    def __init__(self, new: Callable[[], crt.XXHash]) -> None:
        self._hash, self._digest = new(), b""

    def update(self, data: bytes, /) -> None:
        self._hash.update(data)

    def digest(self) -> bytes:
        # awscrt finalizes a hash once only.
        self._digest = self._digest or self._hash.finalize()
        return self._digest


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A checksum algorithm. Only one that can `combine` two checksums yields FULL_OBJECT checksums of parts."""

    new: Callable[[], Digest]
    width: int
    combine: Callable[[int, int, int], int] | None = None
    composes: bool = True

    @property
    def types(self) -> tuple[str, ...]:
        """Return the checksum types of a multipart object, its default first."""
        return (COMPOSITE,) * self.composes + (FULL_OBJECT,) * (self.combine is not None)


ALGORITHMS: dict[str, Algorithm] = {
    "CRC32": Algorithm(lambda: _Crc(zlib.crc32, 4), 4, crt.combine_crc32),
    "CRC32C": Algorithm(lambda: _Crc(crt.crc32c, 4), 4, crt.combine_crc32c),
    "CRC64NVME": Algorithm(lambda: _Crc(crt.crc64nvme, 8), 8, crt.combine_crc64nvme, composes=False),
    "MD5": Algorithm(lambda: hashlib.md5(usedforsecurity=False), 16),
    "SHA1": Algorithm(lambda: hashlib.sha1(usedforsecurity=False), 20),
    "SHA256": Algorithm(hashlib.sha256, 32),
    "SHA512": Algorithm(hashlib.sha512, 64),
    "XXHASH128": Algorithm(lambda: _XxHash(crt.XXHash.new_xxhash3_128), 16),
    "XXHASH3": Algorithm(lambda: _XxHash(crt.XXHash.new_xxhash3_64), 8),
    "XXHASH64": Algorithm(lambda: _XxHash(crt.XXHash.new_xxhash64), 8),
}


def header_name(algorithm: str) -> str:
    """Return the header or form field of a checksum, such as `x-amz-checksum-sha256`."""
    return HEADER_PREFIX + algorithm.lower()


def supported(name: str) -> str:
    """Return the name of an algorithm in upper case, or refuse it with `InvalidRequest`."""
    if name.upper() not in ALGORITHMS:
        raise S3Error(
            "InvalidRequest",
            "Checksum algorithm provided is unsupported. Please try again with any of the valid types: "
            f"[{', '.join(ALGORITHMS)}]",
        )
    return name.upper()


def invalid_value(header: str) -> S3Error:
    """Refuse the value of a checksum header."""
    return S3Error("InvalidRequest", f"Value for {header} header is invalid.")


def mismatch(algorithm: str) -> S3Error:
    """Refuse a checksum that is not the object's."""
    return S3Error("BadDigest", f"The {algorithm} you specified did not match the calculated checksum.")


def written_values(fields: Mapping[str, str]) -> dict[str, str]:
    """Return the checksum values of headers or form fields as written, by algorithm; at most one is allowed."""
    values: dict[str, str] = {}
    for name, value in fields.items():
        if not name.startswith(HEADER_PREFIX) or name in _NO_VALUES:
            continue
        algorithm = name.removeprefix(HEADER_PREFIX).upper()
        if algorithm not in ALGORITHMS:
            raise S3Error("InvalidRequest", "The algorithm type you specified in x-amz-checksum- header is invalid.")
        values[algorithm] = value
    if len(values) > 1:
        raise S3Error(
            "InvalidRequest",
            "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
        )
    return values


def declared(fields: Mapping[str, str]) -> dict[str, str]:
    """Return the checksum that headers or form fields declare of the bytes they come with, by algorithm, base64.

    A value that is not a checksum of its algorithm is refused.
    """
    values = written_values(fields)
    for algorithm, value in values.items():
        if not is_checksum(algorithm, value):
            raise invalid_value(header_name(algorithm))
    return values


def is_checksum(algorithm: str, value: str) -> bool:
    """Tell whether a value is a base64 checksum of the algorithm's width."""
    checksum = _decoded(value)
    return checksum is not None and len(checksum) == ALGORITHMS[algorithm].width


def declared_md5(fields: Mapping[str, str]) -> bytes | None:
    """Return the MD5 of a Content-MD5 header or field; refuse other values with `InvalidDigest`."""
    value = fields.get("content-md5")
    if value is None:
        return None
    digest = _decoded(value)
    if digest is None or len(digest) != 16:
        raise S3Error("InvalidDigest", Content_MD5=value)
    return digest


class Digests:
    """Compute the MD5 and the requested checksums of passing bytes."""

    def __init__(self, algorithms: Iterable[str]) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._digests = {name: ALGORITHMS[name].new() for name in algorithms}
        self.size = 0

    def update(self, data: bytes) -> None:
        """Take in the next bytes."""
        self.size += len(data)
        self._md5.update(data)
        for digest in self._digests.values():
            digest.update(data)

    @property
    def md5(self) -> bytes:
        """Return the MD5 so far, 16 bytes."""
        return self._md5.digest()

    @property
    def checksums(self) -> dict[str, str]:
        """Return the checksums, base64, by algorithm. No bytes may follow."""
        return {name: base64.b64encode(digest.digest()).decode() for name, digest in self._digests.items()}

    def compare(self, checksums: Mapping[str, str], md5: bytes | None) -> None:
        """Refuse with `BadDigest` unless the bytes are the declared ones."""
        if md5 is not None and md5 != self.md5:
            raise S3Error(
                "BadDigest",
                "The Content-MD5 you specified did not match what we received.",
                ExpectedDigest=base64.b64encode(md5).decode(),
                CalculatedDigest=base64.b64encode(self.md5).decode(),
            )
        computed = self.checksums
        for algorithm, value in checksums.items():
            if computed[algorithm] != value:
                raise mismatch(algorithm)


def composite(algorithm: str, parts: Iterable[str]) -> str:
    """Return the checksum of checksums of a multipart object, such as `AbC=-3`."""
    values = list(parts)
    digest = ALGORITHMS[algorithm].new()
    for value in values:
        digest.update(base64.b64decode(value))
    return f"{base64.b64encode(digest.digest()).decode()}-{len(values)}"


def combined(algorithm: str, parts: Iterable[tuple[str, int]]) -> str:
    """Return the checksum of the concatenated parts, from the checksum and the size of each part."""
    combine, total = ALGORITHMS[algorithm].combine, 0
    if combine is None:
        raise ValueError(f"{algorithm} checksums cannot be combined")
    for checksum, size in parts:
        total = combine(total, int.from_bytes(base64.b64decode(checksum), "big"), size)
    return base64.b64encode(total.to_bytes(ALGORITHMS[algorithm].width, "big")).decode()


def _decoded(value: str) -> bytes | None:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None
