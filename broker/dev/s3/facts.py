"""The metadata of objects: read from headers or form fields, and returned in headers."""

import re
from collections.abc import Mapping

from broker.dev.s3.checksums import HEADER_PREFIX, header_name
from broker.dev.s3.clock import http_date
from broker.dev.s3.errors import S3Error, invalid_argument
from broker.dev.s3.mail_words import encode_words
from broker.dev.s3.objects import NULL_VERSION, ObjectVersion

METADATA_PREFIX = "x-amz-meta-"
METADATA_BYTES_MAX = 2048
DEFAULT_CONTENT_TYPE = "binary/octet-stream"
STORAGE_CLASSES = frozenset(
    {
        "STANDARD",
        "REDUCED_REDUNDANCY",
        "STANDARD_IA",
        "ONEZONE_IA",
        "INTELLIGENT_TIERING",
        "GLACIER",
        "GLACIER_IR",
        "DEEP_ARCHIVE",
    }
)
OVERRIDES = (
    "Content-Type",
    "Content-Language",
    "Expires",
    "Cache-Control",
    "Content-Disposition",
    "Content-Encoding",
)
UNREPRESENTABLE = "Header value cannot be represented using ISO-8859-1."
_PRINTABLE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_ONE_LINE = re.compile(r"[^\r\n]*")
_ENCRYPTION = "x-amz-server-side-encryption"
_KEPT = (
    *(name.lower() for name in OVERRIDES),
    "x-amz-website-redirect-location",
    _ENCRYPTION,
    "x-amz-server-side-encryption-aws-kms-key-id",
)


def check(fields: Mapping[str, str]) -> None:
    """Refuse metadata that no response could carry, before the object's bytes are read."""
    for name, value in object_headers(fields).items():
        if not _PRINTABLE.fullmatch(value):
            raise invalid_argument(UNREPRESENTABLE, name, value)
    for name, value in metadata(fields).items():
        # Other control characters come back encoded; a line break would begin another header.
        if not _ONE_LINE.fullmatch(value):
            raise invalid_argument(UNREPRESENTABLE, METADATA_PREFIX + name, value)
    if (storage_class := fields.get("x-amz-storage-class", "STANDARD")) not in STORAGE_CLASSES:
        raise S3Error("InvalidStorageClass", StorageClassRequested=storage_class)


def object_headers(fields: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that are kept with an object and come back with it.

    They are ISO-8859-1, as headers are: a character of a form that has no place there becomes a space.
    """
    kept = {name: _iso_8859_1(fields[name]) for name in _KEPT if name in fields}
    if encoding := kept.get("content-encoding"):
        # aws-chunked is an encoding of the transfer, not of the object.
        rest = [part.strip() for part in encoding.split(",") if part.strip() != "aws-chunked"]
        kept["content-encoding"] = ",".join(rest)
    return {"content-type": DEFAULT_CONTENT_TYPE} | {name: value for name, value in kept.items() if value}


def metadata(fields: Mapping[str, str]) -> dict[str, str]:
    """Return the user's metadata, at most 2 KB of names and values."""
    named = {
        name.removeprefix(METADATA_PREFIX): value for name, value in fields.items() if name.startswith(METADATA_PREFIX)
    }
    size = sum(len(name.encode()) + len(value.encode()) for name, value in named.items())
    if size > METADATA_BYTES_MAX:
        raise S3Error("MetadataTooLarge", Size=size, MaxSizeAllowed=METADATA_BYTES_MAX)
    return named


def answer_headers(version: ObjectVersion, *, with_checksums: bool, versioned: bool) -> dict[str, str]:
    """Return the headers by which GET and HEAD describe an object."""
    headers = {
        **version.headers,
        "etag": f'"{version.etag}"',
        "last-modified": http_date(version.modified),
        "accept-ranges": "bytes",
    }
    headers.setdefault(_ENCRYPTION, "AES256")
    for name, value in version.metadata.items():
        headers[METADATA_PREFIX + name] = encode_words(value)
    if versioned or version.version_id != NULL_VERSION:
        headers["x-amz-version-id"] = version.version_id
    if version.storage_class != "STANDARD":
        headers["x-amz-storage-class"] = version.storage_class
    if version.tags:
        headers["x-amz-tagging-count"] = str(len(version.tags))
    if with_checksums:
        headers |= checksum_headers(version)
    return {name: _iso_8859_1(value) for name, value in headers.items()}


def stored_headers(version: ObjectVersion) -> dict[str, str]:
    """Return the headers of the answer to a write. A null version, as of a suspended bucket, is not named."""
    headers = {"etag": f'"{version.etag}"', _ENCRYPTION: version.headers.get(_ENCRYPTION, "AES256")}
    if version.version_id != NULL_VERSION:
        headers["x-amz-version-id"] = version.version_id
    return headers | checksum_headers(version)


def encryption_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that say how an object with the given kept headers is encrypted."""
    named = {name: value for name, value in headers.items() if name.startswith(_ENCRYPTION)}
    return {_ENCRYPTION: "AES256"} | named


def has_opaque_etag(headers: Mapping[str, str]) -> bool:
    """Return whether the ETag of a whole object is no MD5, as under KMS (Amazon S3 API Reference, "Object", ETag)."""
    return headers.get(_ENCRYPTION, "AES256") != "AES256"


def checksum_headers(version: ObjectVersion) -> dict[str, str]:
    """Return the checksum headers of an object."""
    headers = {header_name(name): value for name, value in version.checksums.items()}
    return headers | {HEADER_PREFIX + "type": version.checksum_type} if headers else {}


def _iso_8859_1(text: str) -> str:
    return "".join(letter if letter <= "\xff" else " " for letter in text)
