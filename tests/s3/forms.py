"""Signed forms as a browser posts them, valid unless a test changes them."""

import base64
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from defusedxml.ElementTree import fromstring

from broker.dev.s3 import EmbeddedS3
from broker.domain.s3 import sigv4

BOUNDARY = "----form-boundary"
TEN_BYTES = b"0123456789"


def multipart(parts: Iterable[tuple[str, str | bytes, str | None]]) -> bytes:
    """Return the body that a browser sends for these parts: name, value and filename, or None for no filename."""
    body = bytearray()
    for name, value, filename in parts:
        disposition = f'form-data; name="{name}"' + ("" if filename is None else f'; filename="{filename}"')
        body += f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n".encode()
        if filename is not None:
            body += b"Content-Type: text/html\r\n"
        body += b"\r\n" + (value if isinstance(value, bytes) else value.encode()) + b"\r\n"
    return bytes(body + f"--{BOUNDARY}--\r\n".encode())


@dataclass
class Form:
    """A form for `bucket` whose policy covers every field. `send` signs and posts it.

    `conditions` are added to the policy, and `document` replaces it. `encode` changes the base64 of the policy before
    it is signed. `extra`, `without` and `after_file` change the parts of the signed form.
    """

    s3: EmbeddedS3
    bucket: str
    fields: dict[str, str] = field(default_factory=lambda: {"key": "staging/a"})
    conditions: list[Any] = field(default_factory=list)
    expires_in: float = 600
    file: bytes = TEN_BYTES
    filename: str | None = "clip.mp4"
    access_key: str = ""
    secret_key: str = ""
    token: str | None = None
    region: str = ""
    document: str | dict[str, Any] | None = None
    encode: Callable[[str], str] = str
    extra: list[tuple[str, str]] = field(default_factory=list)
    without: set[str] = field(default_factory=set)
    after_file: list[tuple[str, str, str | None]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = f"multipart/form-data; boundary={BOUNDARY}"

    def signed_fields(self) -> dict[str, str]:
        """Return the fields, the policy and the signature."""
        now = datetime.now(UTC)
        region = self.region or self.s3.region
        fields = dict(self.fields)
        fields["x-amz-algorithm"] = sigv4.ALGORITHM
        fields["x-amz-credential"] = f"{self.access_key or self.s3.access_key}/{sigv4.scope(now.date(), region)}"
        fields["x-amz-date"] = sigv4.amz_date(now)
        if self.token is not None:
            fields["x-amz-security-token"] = self.token
        document = self.document
        if document is None:
            # A field with a starts-with condition gets no exact condition.
            prefixed = [c for c in self.conditions if isinstance(c, list) and c[:1] == ["starts-with"]]
            prefixed_names = {c[1].lstrip("$").lower() for c in prefixed}
            exact = [{name: value} for name, value in fields.items() if name.lower() not in prefixed_names]
            document = {
                "expiration": f"{now + timedelta(seconds=self.expires_in):%Y-%m-%dT%H:%M:%S.%fZ}",
                "conditions": [{"bucket": self.bucket}, *exact, *self.conditions],
            }
        text = document if isinstance(document, str) else json.dumps(document)
        fields["policy"] = self.encode(base64.b64encode(text.encode()).decode())
        fields["x-amz-signature"] = sigv4.sign(self.secret_key or self.s3.secret_key, now, region, fields["policy"])
        return fields

    def body(self) -> bytes:
        """Return the encoded form."""
        fields = {name: value for name, value in self.signed_fields().items() if name not in self.without}
        parts: list[tuple[str, str | bytes, str | None]] = [(n, v, None) for n, v in fields.items()]
        parts += [(name, value, None) for name, value in self.extra]
        if "file" not in self.without:
            parts.append(("file", self.file, self.filename))
        return multipart([*parts, *self.after_file])

    def send(self) -> httpx.Response:
        """Post the form."""
        return httpx.post(
            f"{self.s3.endpoint_url}/{self.bucket}",
            content=self.body(),
            headers={"Content-Type": self.content_type} | self.headers,
            timeout=60,
        )


def error_code(response: httpx.Response) -> str:
    """Return the code of S3's XML error, and check the elements that every error has."""
    root = fromstring(response.content)
    assert root.tag == "Error"
    assert root.findtext("RequestId") == response.headers["x-amz-request-id"]
    assert root.findtext("HostId") == response.headers["x-amz-id-2"]
    assert root.findtext("Message")
    return root.findtext("Code") or ""


def element(response: httpx.Response, name: str) -> str | None:
    """Return the text of an element of S3's XML answer, or None if it has no such element."""
    return fromstring(response.content).findtext(name)
