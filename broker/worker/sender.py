"""The sender of webhooks: one attempt to deliver an announcement, and its outcome.

Source: Standard Webhooks specification, "Operational considerations".
"""

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus

from broker.domain.announcement import Announcement
from broker.egress.proxy import EgressProxy
from broker.egress.public_network import PublicNetwork
from broker.egress.signed_posts import SignedPosts

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
    """A sender of announcements."""

    def __init__(
        self,
        secrets: Sequence[str],
        network: PublicNetwork,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        proxy: EgressProxy | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._posts = SignedPosts(secrets, network, proxy=proxy, tls=tls)
        self._timeout_seconds = timeout_seconds

    async def send(self, announcement: Announcement, now: datetime) -> Answer:
        """Make one attempt, signed for `now`. No failure of the receiver raises."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                received = await self._posts.post(
                    announcement.target, announcement.message_id, announcement.body(), now, max_bytes=MAX_READ_BYTES
                )
                return Answer(received.status)
        except TimeoutError:
            return Answer(None, f"it did not answer within {self._timeout_seconds:g} seconds")
        except Exception as error:  # a foreign server may cause any error in the client
            return Answer(None, f"{type(error).__name__}: {error}"[:200])

    async def close(self) -> None:
        """Close all connections."""
        await self._posts.close()
