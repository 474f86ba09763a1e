"""Object checksums: computed while the bytes pass, compared with what the client declared.

Source: Amazon S3 User Guide, "Checking object integrity in Amazon S3".
"""

import base64
import binascii
import hashlib
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from awscrt import checksums as crt

from broker.dev.s3.errors import S3Error

HEADER_PREFIX = "x-amz-checksum-"
DEFAULT_ALGORITHM = "CRC64NVME"


class Digest(Protocol):
    """What `hashlib` objects and the CRCs below have in common."""

    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class _Crc:
    def __init__(self, function: Callable[[bytes, int], int], width: int) -> None:
        self._function, self._width, self._value = function, width, 0

    def update(self, data: bytes, /) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._width, "big")


ALGORITHMS: dict[str, Callable[[], Digest]] = {
    "CRC32": lambda: _Crc(zlib.crc32, 4),
    "CRC32C": lambda: _Crc(crt.crc32c, 4),
    "CRC64NVME": lambda: _Crc(crt.crc64nvme, 8),
    "SHA1": lambda: hashlib.sha1(usedforsecurity=False),
    "SHA256": hashlib.sha256,
}
WIDTHS = {name: len(new().digest()) for name, new in ALGORITHMS.items()}


def header_name(algorithm: str) -> str:
    """Return the header or form field of a checksum, such as `x-amz-checksum-sha256`."""
    return HEADER_PREFIX + algorithm.lower()


def declared(fields: Mapping[str, str]) -> dict[str, str]:
    """Return the checksums a client declares in headers or form fields, by algorithm, base64.

    At most one is allowed; one of another length than its algorithm's is refused.
    """
    found = {algorithm: value for algorithm in ALGORITHMS if (value := fields.get(header_name(algorithm))) is not None}
    if len(found) > 1:
        raise S3Error(
            "InvalidRequest",
            "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
        )
    for algorithm, value in found.items():
        if _decoded(value) is None or len(_decoded(value) or b"") != WIDTHS[algorithm]:
            raise S3Error("InvalidRequest", f"Value for {header_name(algorithm)} header is invalid.")
    return found


def declared_md5(fields: Mapping[str, str]) -> bytes | None:
    """Return the MD5 of a Content-MD5 header or field; `InvalidDigest` when it is none."""
    value = fields.get("content-md5")
    if value is None:
        return None
    digest = _decoded(value)
    if digest is None or len(digest) != 16:
        raise S3Error("InvalidDigest", Content_MD5=value)
    return digest


class Digests:
    """Compute the MD5 and the asked checksums of bytes that pass."""

    def __init__(self, algorithms: Iterable[str]) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._digests = {name: ALGORITHMS[name]() for name in algorithms}
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
        """Return the checksums so far, base64, by algorithm."""
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
                raise S3Error("BadDigest", f"The {algorithm} you specified did not match the calculated checksum.")


def composite(algorithm: str, parts: Iterable[str]) -> str:
    """Return the checksum of checksums of a multipart object, such as `AbC=-3`."""
    values = list(parts)
    digest = ALGORITHMS[algorithm]()
    for value in values:
        digest.update(base64.b64decode(value))
    return f"{base64.b64encode(digest.digest()).decode()}-{len(values)}"


def _decoded(value: str) -> bytes | None:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None
