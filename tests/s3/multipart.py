"""Multipart uploads by raw signed requests, so that a test decides on each header and element."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement, tostring

import httpx
from defusedxml.ElementTree import fromstring

from broker.dev.s3.checksums import Digests
from tests.s3.requests import Requests

# The minimum size of every part but the last.
PART = b"a" * 5 * 1024**2
REST = b"b" * 10


def elements(response: httpx.Response) -> dict[str, str]:
    """Return the children of an XML answer's root, by local name; nested ones are left out."""
    return {child.tag.rpartition("}")[2]: child.text or "" for child in fromstring(response.content) if not len(child)}


def nested(response: httpx.Response, name: str) -> list[dict[str, str]]:
    """Return the children of each element of a name, by local name."""
    children = [child for child in fromstring(response.content) if child.tag.rpartition("}")[2] == name]
    return [{item.tag.rpartition("}")[2]: item.text or "" for item in child} for child in children]


def refusal(response: httpx.Response) -> tuple[int, str]:
    """Return the status and code of an error."""
    return response.status_code, elements(response)["Code"]


def checksum(algorithm: str, data: bytes) -> str:
    """Return a checksum, base64."""
    digests = Digests([algorithm])
    digests.update(data)
    return digests.checksums[algorithm]


@dataclass
class Multipart:
    """One multipart upload."""

    requests: Requests
    key: str = "composed"
    id: str = ""
    listed: list[dict[str, str]] = field(default_factory=list)

    def send(self, method: str, query: str, headers: dict[str, str] | None = None, body: bytes = b"") -> httpx.Response:
        """Send a signed request about the upload's key."""
        url = f"{self.requests.url(self.key)}?{query}"
        signed = self.requests.signed_headers(method, url, headers, body)
        return httpx.request(method, url, headers=signed, content=body, timeout=60)

    def create(self, **headers: str) -> httpx.Response:
        """Send CreateMultipartUpload; `checksum_type` stands for the header `x-amz-checksum-type`, and so on."""
        response = self.send("POST", "uploads", _named(headers))
        if response.status_code == 200:
            self.id, self.listed = elements(response)["UploadId"], []
        return response

    def part(self, number: int, body: bytes, **headers: str) -> httpx.Response:
        """Send UploadPart, and list the part for `complete` with the checksums of the answer."""
        return self._list(number, self.send("PUT", self._query(number), _named(headers), body))

    def copy(self, number: int, source: str, **headers: str) -> httpx.Response:
        """Send UploadPartCopy of a key in the same bucket."""
        named = {"x-amz-copy-source": f"{self.requests.bucket}/{quote(source)}"} | _named(headers)
        response = self.send("PUT", self._query(number), named)
        if response.status_code == 200:
            listed = {"PartNumber": str(number)}
            listed |= {name: value for name, value in elements(response).items() if name != "LastModified"}
            self.listed.append(listed)
        return response

    def complete(self, parts: Sequence[dict[str, str]] | None = None, **headers: str) -> httpx.Response:
        """Send CompleteMultipartUpload with the parts so far, or with others."""
        root = Element("CompleteMultipartUpload", xmlns="http://s3.amazonaws.com/doc/2006-03-01/")
        for part in self.listed if parts is None else parts:
            item = SubElement(root, "Part")
            for name, value in part.items():
                SubElement(item, name).text = value
        return self.send("POST", self._query(), _named(headers), tostring(root))

    def abort(self) -> httpx.Response:
        """Send AbortMultipartUpload."""
        return self.send("DELETE", self._query())

    def list_parts(self, query: str = "") -> httpx.Response:
        """Send ListParts."""
        return self.send("GET", f"{self._query()}{query}")

    def head(self, query: str = "x-id=HeadObject") -> httpx.Response:
        """Send HeadObject, with checksums."""
        return self.send("HEAD", query, {"x-amz-checksum-mode": "ENABLED"})

    def get(self, query: str = "x-id=GetObject", **headers: str) -> httpx.Response:
        """Send GetObject, with checksums."""
        return self.send("GET", query, {"x-amz-checksum-mode": "ENABLED"} | _named(headers))

    def bare(self) -> list[dict[str, str]]:
        """Return the parts so far without checksums."""
        return [{name: part[name] for name in ("PartNumber", "ETag")} for part in self.listed]

    def _query(self, number: int = 0) -> str:
        identified = f"uploadId={quote(self.id, safe='')}"
        return f"partNumber={number}&{identified}" if number else identified

    def _list(self, number: int, response: httpx.Response) -> httpx.Response:
        if response.status_code == 200:
            listed = {"PartNumber": str(number), "ETag": response.headers["etag"]}
            for name, value in response.headers.items():
                if name.startswith("x-amz-checksum-"):
                    listed[f"Checksum{name.removeprefix('x-amz-checksum-').upper()}"] = value
            self.listed.append(listed)
        return response


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {
        name.replace("_", "-")
        if name.startswith(("if_", "range", "content_"))
        else f"x-amz-{name.replace('_', '-')}": value
        for name, value in headers.items()
    }
