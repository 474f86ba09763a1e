"""A stand-in for a CloudFront distribution, which checks links as CloudFront does and reads from the bucket."""

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.doctor.answering import serving


class Refusal(Exception):
    """A refusal, by CloudFront's code."""


@dataclass
class Edge:
    """Hold what a distribution is configured with. A test spoils some of it."""

    s3: Any
    bucket: str
    trusted: dict[str, rsa.RSAPublicKey]
    """The keys of its key group, by their ids; none: every request is answered."""
    may_read: bool = True
    """Whether the bucket's policy lets it read."""

    def answer(self, url: str, span: str | None) -> tuple[int, bytes]:
        """Return status and body for a GET of `url`. Raises Refusal."""
        if self.trusted:
            self._check(url)
        if not self.may_read:
            raise Refusal("AccessDenied")
        found = self.s3.get_object(Bucket=self.bucket, Key=urlsplit(url).path[1:], **{"Range": span} if span else {})
        return found["ResponseMetadata"]["HTTPStatusCode"], found["Body"].read()

    def _check(self, url: str) -> None:
        asked, _, signed = url.partition("?")
        query = {name: values[0] for name, values in parse_qs(signed).items()}
        if "Key-Pair-Id" not in query:
            raise Refusal("MissingKey")
        if query["Key-Pair-Id"] not in self.trusted:
            raise Refusal("InvalidKey")
        ends = {"DateLessThan": {"AWS:EpochTime": int(query["Expires"])}}
        policy = json.dumps({"Statement": [{"Resource": asked, "Condition": ends}]}, separators=(",", ":"))
        signature = base64.b64decode(query["Signature"].translate(str.maketrans("-_~", "+=/")))
        try:
            self.trusted[query["Key-Pair-Id"]].verify(signature, policy.encode(), padding.PKCS1v15(), SHA1())  # noqa: S303
        except InvalidSignature:
            raise Refusal("AccessDenied") from None
        if int(query["Expires"]) < time.time():
            raise Refusal("AccessDenied")

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serve on a free port; yield the address."""

        class Answer(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:  # noqa: N805
                address = f"http://{handler.headers['Host']}{handler.path}"
                try:
                    status, body = self.answer(address, handler.headers.get("Range"))
                except Refusal as refused:
                    status, body = 403, f"<Error><Code>{refused}</Code></Error>".encode()
                handler.send_response(status)
                handler.send_header("Content-Length", str(len(body)))
                handler.end_headers()
                handler.wfile.write(body)

            def log_message(handler, *_: object) -> None:  # noqa: N805
                """Say nothing."""

        with serving(Answer) as address:
            yield address


def key_pair() -> tuple[rsa.RSAPublicKey, str]:
    """Return a public key, and its private half in PEM form."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.public_key(), key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
