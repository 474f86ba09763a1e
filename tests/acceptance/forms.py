"""Signed forms as a browser sends them, and the changes that a test makes to them."""

import json
import secrets
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import httpx

from broker.domain.s3 import sigv4
from broker.domain.s3.sigv4 import Credentials
from tests.acceptance.servers import S3

VIDEO = b"\x00\x00\x00\x18ftypmp42" + bytes(range(256)) * 16
"""4,108 bytes that begin like an MP4 file."""

Part = tuple[str, str | bytes]
"""One part of a form: its name, and the text of a field or the bytes of a file."""

Form = list[Part]

Condition = dict[str, str] | list[str | int]
"""One condition of a policy: the exact value of a field, or an operator with its operands."""


@dataclass(frozen=True)
class Upload:
    """A key in the S3 server under test that no other test uses, and forms that upload VIDEO to it."""

    s3: S3
    prefix: str = field(default_factory=lambda: f"acceptance/{secrets.token_hex(8)}/")
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def key(self) -> str:
        """Return the key that the policy names."""
        return f"{self.prefix}video.mp4"

    def conditions(self, *added: Condition, min_size: int = 1, max_size: int = 1_000_000) -> list[Condition]:
        """Return the conditions of the broker's policies and the added ones."""
        return [
            {"Content-Type": "video/mp4"},
            {"success_action_status": "201"},
            ["content-length-range", min_size, max_size],
            {"bucket": self.s3.bucket},
            {"key": self.key},
            *added,
        ]

    def form(
        self,
        *,
        fields: Mapping[str, str | None] | None = None,
        conditions: Sequence[Condition] | None = None,
        credentials: Credentials | None = None,
        now: datetime | None = None,
        expires_in: int = 900,
        content: bytes = VIDEO,
    ) -> Form:
        """Return a signed form, valid unless an argument makes it invalid. A field of value None is left out."""
        keys = credentials or self.s3.credentials
        signer = self._signer(keys, now or self.now)
        sent_fields = {
            "key": self.key,
            "Content-Type": "video/mp4",
            "success_action_status": "201",
            **(fields or {}),
            **signer,
        }
        own = self.conditions() if conditions is None else conditions
        expires_at = (now or self.now) + timedelta(seconds=expires_in)
        document = json.dumps(
            {
                "expiration": f"{expires_at:%Y-%m-%dT%H:%M:%SZ}",
                "conditions": [*own, *({name: value} for name, value in signer.items())],
            }
        ).encode()
        policy = b64encode(document).decode()
        signature = sigv4.sign(keys.secret_key, now or self.now, self.s3.region, policy)
        form: Form = [(name, value) for name, value in sent_fields.items() if value is not None]
        return [*form, ("policy", policy), ("x-amz-signature", signature), ("file", content)]

    def form_around(self, document: bytes) -> Form:
        """Return a form around an arbitrary policy document, with a valid signature."""
        policy = b64encode(document).decode()
        signature = sigv4.sign(self.s3.credentials.secret_key, self.now, self.s3.region, policy)
        return replaced(replaced(self.form(), "policy", policy), "x-amz-signature", signature)

    def document(self) -> dict[str, object]:
        """Return the policy document of the valid form."""
        [policy] = [value for name, value in self.form() if name == "policy"]
        document: dict[str, object] = json.loads(b64decode(policy))
        return document

    def _signer(self, credentials: Credentials, now: datetime) -> dict[str, str]:
        """Return the fields that name the signing key and time."""
        fields = {
            "x-amz-algorithm": sigv4.ALGORITHM,
            "x-amz-credential": f"{credentials.access_key}/{sigv4.scope(now.date(), self.s3.region)}",
            "x-amz-date": sigv4.amz_date(now),
        }
        if credentials.session_token is not None:
            fields["x-amz-security-token"] = credentials.session_token
        return fields

    def send(self, form: Form) -> httpx.Response:
        """Post the form as a browser does."""
        content_type, body = multipart(form)
        return self.s3.http.post(self.s3.bucket_url, headers={"Content-Type": content_type}, content=body)


def multipart(form: Form) -> tuple[str, bytes]:
    """Return the Content-Type and the body of a form, its parts in the order given (RFC 7578)."""
    boundary = secrets.token_hex(16)
    body = bytearray()
    for name, value in form:
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"'.encode()
        if isinstance(value, bytes):
            body += b'; filename="video.mp4"\r\nContent-Type: application/octet-stream\r\n\r\n' + value
        else:
            body += b"\r\n\r\n" + value.encode()
        body += b"\r\n"
    return f"multipart/form-data; boundary={boundary}", bytes(body) + f"--{boundary}--\r\n".encode()


def replaced(form: Form, name: str, value: str) -> Form:
    """Return the form with this value in the named field."""
    return [(name, value) if part[0] == name else part for part in form]


def without(form: Form, *names: str) -> Form:
    """Return the form without the named parts."""
    return [part for part in form if part[0] not in names]


def xml(answer: httpx.Response) -> ElementTree.Element:
    """Return the XML document of S3's answer."""
    return ElementTree.fromstring(answer.content)  # noqa: S314 - a server under test
