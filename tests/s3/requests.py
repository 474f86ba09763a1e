"""Requests that botocore signs, with arguments that make them invalid."""

from dataclasses import dataclass
from urllib.parse import quote

import httpx
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from broker.dev.s3 import EmbeddedS3


@dataclass
class Requests:
    """Signs and sends requests for one bucket with the server's key, unless a test passes other credentials."""

    s3: EmbeddedS3
    bucket: str

    def url(self, key: str = "a") -> str:
        """Return the URL of an object."""
        return f"{self.s3.endpoint_url}/{self.bucket}/{quote(key)}"

    def presign(
        self,
        key: str = "a",
        *,
        method: str = "GET",
        expires_in: int = 60,
        credentials: Credentials | None = None,
        region: str | None = None,
        query: str = "",
    ) -> str:
        """Return a presigned URL."""
        request = AWSRequest(method, self.url(key) + query)
        S3SigV4QueryAuth(credentials or self.credentials, "s3", region or self.s3.region, expires_in).add_auth(request)
        return str(request.url)

    def signed_headers(
        self,
        method: str,
        url: str,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        *,
        credentials: Credentials | None = None,
        region: str | None = None,
        service: str = "s3",
        in_unsigned_chunks: bool = False,
    ) -> dict[str, str]:
        """Return the headers of a signed request."""
        request = AWSRequest(method, url, headers=headers, data=body)
        # botocore signs the body over http, and not over https. The tests sign it always.
        request.context["payload_signing_enabled"] = True
        if in_unsigned_chunks:
            request.context["checksum"] = {"request_algorithm": {"in": "trailer"}}
        S3SigV4Auth(credentials or self.credentials, service, region or self.s3.region).add_auth(request)
        return dict(request.headers.items())

    def send(
        self, method: str, key: str = "a", headers: dict[str, str] | None = None, body: bytes = b""
    ) -> httpx.Response:
        """Send a signed request for an object."""
        url = self.url(key)
        return httpx.request(method, url, headers=self.signed_headers(method, url, headers, body), content=body)

    @property
    def credentials(self) -> Credentials:
        """Return the server's key."""
        return Credentials(self.s3.access_key, self.s3.secret_key)
