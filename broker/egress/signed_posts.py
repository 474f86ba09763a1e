"""Signed POST requests: to public addresses, without redirects, and with a bounded read of the response.

Source: Standard Webhooks specification, "Signature scheme", "Webhook headers" and "Operational considerations".
"""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import httpcore
from standardwebhooks import Webhook

from broker.egress.public_network import PublicNetwork


@dataclass(frozen=True, slots=True)
class Received:
    """A response. `is_whole` is false if the body broke off, or is longer than the caller wanted to read."""

    status: int
    body: bytes
    is_whole: bool


class SignedPosts:
    """A client for signed messages. During a rotation there are two secrets, and each message has both signatures."""

    def __init__(
        self,
        secrets: Sequence[str],
        network: PublicNetwork,
        *,
        connections: int = 64,
        idle_connections: int = 16,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Post over at most `connections` at a time, of which `idle_connections` are kept for later messages."""
        self._signers = [Webhook(secret) for secret in secrets]
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls or ssl.create_default_context(),
            max_connections=connections,
            max_keepalive_connections=idle_connections,
            keepalive_expiry=30,
            network_backend=network,
        )

    def headers(self, message_id: str, body: str, now: datetime) -> dict[str, str]:
        """Return the headers that identify and sign a JSON body."""
        signatures = (signer.sign(message_id, now, body) for signer in self._signers)
        return {
            "Content-Type": "application/json",
            "User-Agent": "s3-media-broker",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(signatures),
        }

    async def post(self, target: str, message_id: str, body: str, now: datetime, *, max_bytes: int) -> Received:
        """Post a message, signed for `now`, and read at most `max_bytes` of the response, and a little more.

        The caller bounds the time. A redirect is returned like any other response. A longer response closes its
        connection; a shorter one leaves it for the next message. Raises httpcore's errors.
        """
        url = httpcore.URL(target)
        pairs = [(name.encode(), value.encode()) for name, value in self.headers(message_id, body, now).items()]
        headers = [(b"Host", _authority(url)), *pairs]
        async with self._pool.stream("POST", url, headers=headers, content=body.encode()) as response:
            received = bytearray()
            is_whole = True
            try:
                async for piece in response.aiter_stream():
                    received += piece
                    if len(received) > max_bytes:
                        is_whole = False
                        break
            except (httpcore.NetworkError, httpcore.ProtocolError):
                is_whole = False
            return Received(response.status, bytes(received[:max_bytes]), is_whole)

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.aclose()


def _authority(url: httpcore.URL) -> bytes:
    """Return the Host header for `url`, with the port unless it is the scheme's default (RFC 9110, section 7.2)."""
    host = b"[%b]" % url.host if b":" in url.host else url.host
    return host if url.port is None else b"%b:%d" % (host, url.port)
