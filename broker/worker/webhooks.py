"""The job of webhooks: notify the app's backend of each media at least once, in order per media, for three days.

Source: Standard Webhooks specification, "Deliverability and reliability".
"""

import asyncio
import random
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Protocol
from urllib.parse import urlsplit

import structlog

from broker import metrics
from broker.clock import Clock, utc_now
from broker.domain.announcement import Announcement
from broker.errors import DatabaseUnavailable
from broker.store import Outbox
from broker.worker.sender import TIMEOUT_SECONDS, Answer

BATCH = 32
CONCURRENCY = 8
"""How many webhooks one worker sends to one target concurrently."""
CLAIM = timedelta(seconds=2 * TIMEOUT_SECONDS * BATCH / CONCURRENCY)
"""How long a worker's claim of a batch lasts: twice the time of a batch in which every receiver hangs."""
REST_SECONDS = 1.0
TIDY_EVERY_SECONDS = 600.0
KEEP_GIVEN_UP = timedelta(days=30)
"""How long a webhook that was given up can still be sent by `broker webhooks retry`."""
FIRST_DELAY_SECONDS = 5.0
DELAY_FACTOR = 3.0
MAX_DELAY_SECONDS = 8 * 3600.0

log = structlog.get_logger()


def delay(attempts: int, chance: float) -> timedelta:
    """Return the delay after that many failed attempts: 5 s, 15 s, 45 s … 8 h, plus or minus a fifth.

    `chance`, 0 to 1, spreads the retries of webhooks that failed together.
    """
    seconds = min(FIRST_DELAY_SECONDS * DELAY_FACTOR ** (attempts - 1), MAX_DELAY_SECONDS)
    return timedelta(seconds=seconds * (0.8 + 0.4 * chance))


class Delivery(Protocol):
    """A way to deliver announcements: to receivers by HTTP, or to a function of this process."""

    async def send(self, announcement: Announcement, now: datetime) -> Answer:
        """Make one attempt, and return its outcome."""


class Webhooks:
    """Deliver the outbox. Each target has its own loop, so that a hanging one does not delay the others."""

    def __init__(self, outbox: Outbox, sender: Delivery, targets: tuple[str, ...], *, clock: Clock = utc_now) -> None:
        self._outbox = outbox
        self._sender = sender
        self._targets = targets
        self._clock = clock
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Deliver until `stop` is called, then finish the current deliveries."""
        async with asyncio.TaskGroup() as together:
            together.create_task(self._tidy())
            for target in self._targets:
                together.create_task(self._notify(target))

    async def stop(self) -> None:
        """Let `run` end; claimed webhooks that were not started become due when their lease expires."""
        self._stopping.set()

    async def once(self, target: str) -> int:
        """Claim one batch for a target, send it, and return its size. Raises DatabaseUnavailable."""
        now = self._clock()
        claimed = await self._outbox.claim(target, now, lease_until=now + CLAIM, limit=BATCH)
        slots = asyncio.Semaphore(CONCURRENCY)
        deliveries = (self._deliver(announcement, slots) for announcement in claimed)
        for result in await asyncio.gather(*deliveries, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
        return len(claimed)

    async def _notify(self, target: str) -> None:
        while not self._stopping.is_set():
            claimed = 0
            try:
                claimed = await self.once(target)
            except DatabaseUnavailable as error:
                log.warning("webhooks pause", reason=str(error))
            except Exception:
                log.exception("webhooks failed", target_host=urlsplit(target).hostname)
            if not claimed:
                await self._rest(REST_SECONDS)

    async def _deliver(self, announcement: Announcement, slots: asyncio.Semaphore) -> None:
        async with slots:
            if self._stopping.is_set():
                return
            answer = await self._sender.send(announcement, self._clock())
            if answer.delivered:
                await self._outbox.delivered(announcement)
                outcome = "delivered"
            elif answer.gone:
                await self._outbox.disable(announcement.target, self._clock())
                outcome = "disabled"
            else:
                outcome = "failed"
            if not answer.delivered:
                next_at = self._next_attempt_at(announcement)
                await self._outbox.postpone(announcement, next_at, answer.reason)
                outcome = outcome if next_at is not None else "given up"
                self._log(announcement, outcome, answer.reason)
            metrics.DELIVERIES.labels(outcome).inc()

    def _next_attempt_at(self, announcement: Announcement) -> datetime | None:
        chance = random.random()  # noqa: S311 - spreads attempts, protects nothing
        next_at = self._clock() + delay(announcement.attempts + 1, chance)
        return next_at if next_at <= announcement.give_up_at else None

    async def _tidy(self) -> None:
        while not self._stopping.is_set():
            now = self._clock()
            with suppress(DatabaseUnavailable):
                await self._outbox.tidy(now, forget_before=now - KEEP_GIVEN_UP)
            await self._rest(TIDY_EVERY_SECONDS)

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    def _log(self, announcement: Announcement, outcome: str, reason: str) -> None:
        write = log.info if outcome == "failed" else log.error
        write(
            "webhook is not delivered",
            webhook_id=announcement.message_id,
            target_host=urlsplit(announcement.target).hostname,
            outcome=outcome,
            attempts=announcement.attempts + 1,
            reason=reason,
        )
