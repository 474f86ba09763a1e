"""Deletions: objects with all their versions, up to 1,000 with one request.

Sources: Amazon S3 API Reference, "DeleteObjects", "ListObjectVersions" and "ListObjectsV2".
"""

import asyncio
import base64
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape

from broker.aws.client import Answer, Call

MAX_VERSIONS = 1000
"""The number of versions of one key that a purge removes; one listing and one DeleteObjects take as many."""
MAX_TURN_VERSIONS = 20_000
"""The number of versions that one turn of `purge_below` removes: 10,000 parts, each with its delete marker."""
FULL_PAGE = MAX_VERSIONS - 1
"""The number of keys that are listed for a purge: one more key still fits into its DeleteObjects."""


class Version(NamedTuple):
    """One version of an object, or a delete marker; without an id, whatever is current."""

    key: str
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Deleted:
    """The outcome of one DeleteObjects."""

    versioned: frozenset[str] = frozenset()
    """The keys that got a delete marker, whose versions are left; only in a versioned bucket."""
    failures: dict[str, Exception] = field(default_factory=dict)
    """The errors of single keys."""

    def raise_failure(self) -> None:
        """Raise the first error, if there is one."""
        for failure in self.failures.values():
            raise failure


class Deletion:
    """Delete objects of one bucket; absent ones are no error.

    Every method raises StorageUnavailable and StorageRefused for a request that fails as a whole.
    """

    def __init__(self, call: Call, failure: Callable[[str, str, Answer], Exception]) -> None:
        """`failure` returns the error for an operation, a code and the answer that names it."""
        self._call = call
        self._failure = failure

    async def purge(self, *keys: str) -> bool:
        """Remove the objects under at most 1,000 `keys` with their versions.

        One turn is bounded: it removes at most MAX_VERSIONS versions of each key. Return whether nothing is left.
        """
        deleted = await self.delete(keys)
        deleted.raise_failure()
        return all(await asyncio.gather(*map(self.purge_versions, deleted.versioned)))

    async def purge_versions(self, key: str) -> bool:
        """Remove up to MAX_VERSIONS versions of one key; return whether nothing is left."""
        listing, entries = await self._versions(key)
        of_key = [Version(key, entry.findtext("VersionId")) for entry in entries if entry.findtext("Key") == key]
        if of_key:
            (await self._delete(of_key)).raise_failure()
        # Keys that continue this one sort after it, so a listing that has reached one has passed all versions.
        return len(of_key) < len(entries) or listing.findtext("IsTruncated") != "true"

    async def purge_below(self, prefix: str, key: str) -> bool:
        """Remove all objects whose keys begin with `prefix`, with their versions; return whether nothing is left.

        One turn removes at most MAX_TURN_VERSIONS of them. `key` is any key below `prefix`. It is deleted in any case:
        the answer tells whether the bucket keeps versions, so that only a versioned one needs the right to list them.
        """
        for _ in range(0, MAX_TURN_VERSIONS, MAX_VERSIONS):
            keys = await self._keys(prefix)
            deleted = await self.delete({key, *keys})
            deleted.raise_failure()
            if deleted.versioned:
                return await self._purge_versions_below(prefix)
            if len(keys) < FULL_PAGE:
                return True
        return False

    async def delete(self, keys: Iterable[str]) -> Deleted:
        """Delete at most 1,000 `keys` by one request. In a versioned bucket, their versions are left."""
        return await self._delete([Version(key) for key in keys])

    async def _purge_versions_below(self, prefix: str) -> bool:
        for _ in range(0, MAX_TURN_VERSIONS, MAX_VERSIONS):
            listing, entries = await self._versions(prefix)
            versions = [Version(entry.findtext("Key") or "", entry.findtext("VersionId")) for entry in entries]
            if versions:
                (await self._delete(versions)).raise_failure()
            if listing.findtext("IsTruncated") != "true":
                return True
        return False

    async def _delete(self, versions: list[Version]) -> Deleted:
        entries = "".join(
            f"<Object><Key>{escape(version.key)}</Key>"
            + (f"<VersionId>{escape(version.id)}</VersionId>" if version.id is not None else "")
            + "</Object>"
            for version in versions
        )
        body = f'<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{entries}</Delete>'.encode()
        digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        answer = await self._call(
            "delete_objects",
            "POST",
            query={"delete": ""},
            headers={"content-md5": digest, "content-type": "application/xml"},
            body=body,
            has_result=True,
        )
        result = answer.xml()
        codes = {error.findtext("Key") or "": error.findtext("Code") or "Unknown" for error in result.iterfind("Error")}
        causes = {*codes.values()} - {"NoSuchKey", "NoSuchVersion"}
        failures = {code: self._failure("delete_objects", code, answer) for code in causes}
        return Deleted(
            versioned=frozenset(
                deleted.findtext("Key") or ""
                for deleted in result.iterfind("Deleted")
                if deleted.findtext("DeleteMarker") == "true" and deleted.find("VersionId") is None
            ),
            failures={key: failures[code] for key, code in codes.items() if code in failures},
        )

    async def _keys(self, prefix: str) -> list[str]:
        """Return the first keys below `prefix`, at most FULL_PAGE."""
        query = {"list-type": "2", "max-keys": str(FULL_PAGE), "prefix": prefix}
        answer = await self._call("list_objects_v2", "GET", query=query, has_result=True)
        return [entry.findtext("Key") or "" for entry in answer.xml().iterfind("Contents")]

    async def _versions(self, prefix: str) -> tuple[Element, list[Element]]:
        """Return a listing of up to MAX_VERSIONS versions whose keys begin with `prefix`, and its entries."""
        answer = await self._call(
            "list_object_versions",
            "GET",
            query={"max-keys": str(MAX_VERSIONS), "prefix": prefix, "versions": ""},
            has_result=True,
        )
        listing = answer.xml()
        return listing, [entry for entry in listing if entry.tag in {"Version", "DeleteMarker"}]
