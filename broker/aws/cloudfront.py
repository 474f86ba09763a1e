"""Playback through CloudFront: signed URLs of a distribution in front of the bucket, if a key pair is set.

Source: Amazon CloudFront Developer Guide, "Create a signed URL using a canned policy".
"""

from datetime import datetime
from typing import Any

from botocore.signers import CloudFrontSigner
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from broker.domain.s3 import sigv4


class Distribution:
    """A distribution at `url` that serves the bucket's objects under the same keys to signed links."""

    def __init__(self, url: str, key_id: str, private_key: str) -> None:
        """Load the RSA private key, in PEM form, whose public half CloudFront knows as `key_id`.

        Raises ValueError if it is not an RSA private key.
        """
        key = load_pem_private_key(private_key.encode(), password=None)
        if not isinstance(key, RSAPrivateKey):
            raise ValueError("should be an RSA private key in PEM form")

        def sign(message: bytes) -> bytes:
            return key.sign(message, padding.PKCS1v15(), SHA1())  # noqa: S303 CloudFront accepts no other hash

        self._url = url
        self._signer: Any = CloudFrontSigner(key_id, sign)

    def sign(self, key: str, *, expires_at: datetime, overrides: dict[str, str]) -> str:
        """Return a link to `key` that expires at `expires_at`; `overrides` are the `response-*` parameters for S3."""
        query = "&".join(f"{name}={sigv4.uri_encode(value)}" for name, value in overrides.items())
        url = f"{self._url}/{sigv4.uri_encode(key, safe='/')}" + (f"?{query}" if query else "")
        link: str = self._signer.generate_presigned_url(url, date_less_than=expires_at)
        return link
