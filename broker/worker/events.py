"""Complete what S3 says has arrived: one loop that receives, and as many at work as there are slots.

An event is a hint like a client's word, and runs the same check. It comes at least once and in any order; a message is
deleted only once its effect is recorded, and what can never succeed is left to the queue's own redrive.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog

from broker import metrics
from broker.aws.queue import Message, Queue
from broker.clock import Clock, utc_now
from broker.domain.keys import media_id_of
from broker.errors import (
    BrokerError,
    CredentialsExpired,
    DatabaseUnavailable,
    MediaNotFound,
    NothingUploaded,
    ProbeFailed,
    PromotionRunning,
    QueueUnavailable,
    StorageRefused,
    StorageUnavailable,
    UploadExpired,
    UploadRejected,
)
from broker.lifecycle.verbs import Lifecycle
from broker.worker.envelopes import Created, EnvelopeUnknown, created_objects

CONCURRENCY = 16
"""How many messages are at work at a time."""
MAX_HIDDEN_SECONDS = 900
"""The longest time until a message whose check could not be made is received again; it doubles up to here."""
FIRST_REST_SECONDS = 1.0
MAX_REST_SECONDS = 60.0
"""The longest rest while S3, the queue or the database is away; it doubles up to here."""
TRANSIENT = (StorageUnavailable, StorageRefused, DatabaseUnavailable, CredentialsExpired, ProbeFailed)
"""What passes by itself, or once an operator has mended it; no message is to blame."""
SETTLED = (MediaNotFound, NothingUploaded, UploadRejected, UploadExpired)
"""How a check may end with nothing left to do: what it found is recorded, or there is nothing to record."""

log = structlog.get_logger()


class Events:
    """Receive messages and complete the media that they name; many replicas share the queue."""

    def __init__(self, queue: Queue, verbs: Lifecycle, *, bucket_name: str, clock: Clock = utc_now) -> None:
        self._queue = queue
        self._verbs = verbs
        self._bucket_name = bucket_name
        self._clock = clock
        self._stopping = asyncio.Event()
        self._rest_seconds = 0.0

    async def run(self) -> None:
        """Receive until `stop` is called; what is under way then is finished."""
        at_work: set[asyncio.Task[None]] = set()
        while not self._stopping.is_set():
            if len(at_work) == CONCURRENCY:
                await asyncio.wait(at_work, return_when=asyncio.FIRST_COMPLETED)
            for message in await self._received(CONCURRENCY - len(at_work)):
                task = asyncio.create_task(self._handle(message))
                at_work.add(task)
                task.add_done_callback(at_work.discard)
            if self._rest_seconds:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), self._rest_seconds)
        await asyncio.gather(*at_work)

    async def stop(self) -> None:
        """Let `run` end; what was received but not begun is handed back to the queue."""
        self._stopping.set()

    async def _received(self, limit: int) -> list[Message]:
        try:
            messages = await self._queue.receive(limit)
        except QueueUnavailable as error:
            self._rest_longer(error)
            return []
        now = self._clock()
        metrics.QUEUE_LAG.set(max(((now - message.sent_at).total_seconds() for message in messages), default=0.0))
        if not messages:
            self._rest_seconds = 0.0
        return messages

    async def _handle(self, message: Message) -> None:
        """Carry out one message, then delete it or leave it to come again; nothing of it ends the loop."""
        try:
            if self._stopping.is_set():
                await self._queue.hide(message, 0)
                return
            async with self._hidden(message):
                outcome = await self._outcome(message)
            if outcome in {"completed", "ignored"}:
                await self._queue.delete(message)
            elif outcome == "away":
                # Receives are counted: an outage should not use up those that the redrive allows.
                await self._queue.hide(message, self._longer_hidden(message))
            metrics.EVENTS.labels(outcome).inc()
        except QueueUnavailable as error:
            self._rest_longer(error)
        except Exception:
            log.exception("message failed", message_id=message.id)

    async def _outcome(self, message: Message) -> str:
        try:
            created = created_objects(message.body)
            for one in created:
                await self._complete(one)
        except TRANSIENT as error:
            self._rest_longer(error)
            return "away"
        except (BrokerError, EnvelopeUnknown) as error:
            # SQS says how often it was received, so that one line is logged however many workers share the queue.
            if message.receives == 1:
                log.error(
                    "message cannot be carried out; it is left to the dead-letter queue",
                    message_id=message.id,
                    reason=str(error),
                )
            return "poison"
        self._rest_seconds = 0.0
        return "completed" if created else "ignored"

    async def _complete(self, created: Created) -> None:
        """Complete the media whose staging object was created; another bucket's object and another key are nobody's."""
        media_id = media_id_of(created.key)
        if media_id is None or created.bucket != self._bucket_name:
            return
        with suppress(*SETTLED):
            while True:
                try:
                    await self._verbs.confirm(media_id, None)
                except PromotionRunning:
                    # Somebody else copies, or crashed in it: each round waits, and the end of the lease ends it.
                    continue
                return

    @asynccontextmanager
    async def _hidden(self, message: Message) -> AsyncIterator[None]:
        """Keep the message from others for as long as it is at work."""
        extending = asyncio.create_task(self._extend(message))
        try:
            yield
        finally:
            extending.cancel()
            with suppress(asyncio.CancelledError):
                await extending

    async def _extend(self, message: Message) -> None:
        seconds = self._queue.config.visibility_seconds
        while True:
            await asyncio.sleep(seconds / 2)
            try:
                await self._queue.hide(message, seconds)
            except QueueUnavailable as error:
                # Others may receive it now, which costs them a look at what this one does.
                log.warning("message could not be kept hidden", message_id=message.id, reason=str(error))

    def _longer_hidden(self, message: Message) -> int:
        return min(self._queue.config.visibility_seconds << (message.receives - 1), MAX_HIDDEN_SECONDS)

    def _rest_longer(self, error: BrokerError) -> None:
        self._rest_seconds = min(max(self._rest_seconds * 2, FIRST_REST_SECONDS), MAX_REST_SECONDS)
        log.warning("events rest", reason=str(error), seconds=self._rest_seconds)
