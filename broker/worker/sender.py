"""The sender of webhooks: signed, to public addresses, without redirects, and with a bounded read of the response.

Source: Standard Webhooks specification, "Signature scheme", "Webhook headers" and "Operational considerations".
"""

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus

import httpcore
from standardwebhooks import Webhook

from broker.domain.announcement import Announcement
from broker.worker.public_network import PublicNetwork

TIMEOUT_SECONDS = 15.0
"""How long one delivery may take in all; the specification recommends 15 to 30 seconds."""
MAX_READ_BYTES = 4096
"""How much of a response is read so that its connection can be reused; after a longer one it is closed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a receiver. If there was none, `status` is None and `failure` gives the reason."""

    status: int | None
    failure: str | None = None

    @property
    def delivered(self) -> bool:
        """Return whether the receiver accepted the webhook."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def gone(self) -> bool:
        """Return whether the receiver wants no further webhooks."""
        return self.status == HTTPStatus.GONE

    @property
    def reason(self) -> str:
        """Return the reason why it was not delivered."""
        return self.failure or f"it answered {self.status}"


class Sender:
    """A sender of announcements. During a rotation there are two secrets, and each delivery has both signatures."""

    def __init__(
        self,
        secrets: Sequence[str],
        network: PublicNetwork,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._signers = [Webhook(secret) for secret in secrets]
        self._timeout_seconds = timeout_seconds
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls or ssl.create_default_context(),
            max_connections=64,
            max_keepalive_connections=16,
            keepalive_expiry=30,
            network_backend=network,
        )

    async def send(self, announcement: Announcement, now: datetime) -> Answer:
        """Make one attempt, signed for `now`. No failure of the receiver raises."""
        body = announcement.body()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return Answer(await self._post(announcement.target, self.headers(announcement, body, now), body))
        except TimeoutError:
            return Answer(None, f"it did not answer within {self._timeout_seconds:g} seconds")
        except Exception as error:  # a foreign server may cause any error in the client
            return Answer(None, f"{type(error).__name__}: {error}"[:200])

    def headers(self, announcement: Announcement, body: str, now: datetime) -> dict[str, str]:
        """Return the headers that identify and sign a body."""
        signatures = (signer.sign(announcement.message_id, now, body) for signer in self._signers)
        return {
            "Content-Type": "application/json",
            "User-Agent": "s3-media-broker",
            "webhook-id": announcement.message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(signatures),
        }

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.aclose()

    async def _post(self, target: str, headers: dict[str, str], body: str) -> int:
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        url = httpcore.URL(target)
        async with self._pool.stream(
            "POST", url, headers=[(b"Host", _authority(url)), *pairs], content=body.encode()
        ) as response:
            size = 0
            with suppress(httpcore.NetworkError, httpcore.ProtocolError):
                async for piece in response.aiter_stream():
                    size += len(piece)
                    if size > MAX_READ_BYTES:
                        break
            return response.status


def _authority(url: httpcore.URL) -> bytes:
    """Return the Host header for `url`, with the port unless it is the scheme's default (RFC 9110, section 7.2)."""
    host = b"[%b]" % url.host if b":" in url.host else url.host
    return host if url.port is None else b"%b:%d" % (host, url.port)
