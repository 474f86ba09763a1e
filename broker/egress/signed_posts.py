"""Signed POST requests: to allowed addresses, without redirects, and with a bounded read of the response.

An egress proxy resolves names itself, and decides which of them may be reached. A target that is named by its address
must be allowed here, too.

Source: Standard Webhooks specification, "Signature scheme", "Webhook headers" and "Operational considerations".
"""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import httpcore
from standardwebhooks import Webhook

from broker.egress.proxy import EgressProxy, is_address
from broker.egress.public_network import AddressRefused, PublicNetwork


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
        proxy: EgressProxy | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Post over at most `connections` at a time, of which `idle_connections` are kept for later messages."""
        self._signers = [Webhook(secret) for secret in secrets]
        self._network = network
        self._proxy = proxy
        options: dict[str, Any] = {
            "ssl_context": tls or ssl.create_default_context(),
            "max_connections": connections,
            "max_keepalive_connections": idle_connections,
            "keepalive_expiry": 30,
        }
        self._direct = httpcore.AsyncConnectionPool(**options, network_backend=network)
        self._proxied = None if proxy is None else _through(proxy, options)

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
        async with self._pool_for(url).stream("POST", url, headers=headers, content=body.encode()) as response:
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
        await self._direct.aclose()
        if self._proxied is not None:
            await self._proxied.aclose()

    def _pool_for(self, url: httpcore.URL) -> httpcore.AsyncConnectionPool:
        """Return the connections that lead to `url`. Raises AddressRefused for an address that is not allowed."""
        host = url.host.decode("ascii")
        if self._proxy is None or self._proxied is None or not self._proxy.serves(host):
            return self._direct
        if is_address(host) and not self._network.allows(host):
            raise AddressRefused("the address is not public")
        return self._proxied


def _through(proxy: EgressProxy, options: dict[str, Any]) -> httpcore.AsyncHTTPProxy:
    parts = urlsplit(proxy.url)
    user = None if parts.username is None else (unquote(parts.username), unquote(parts.password or ""))
    return httpcore.AsyncHTTPProxy(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", proxy_auth=user, **options)


def _authority(url: httpcore.URL) -> bytes:
    """Return the Host header for `url`, with the port unless it is the scheme's default (RFC 9110, section 7.2)."""
    host = b"[%b]" % url.host if b":" in url.host else url.host
    return host if url.port is None else b"%b:%d" % (host, url.port)
