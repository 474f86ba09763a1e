"""The job of S3 events: receive messages in one loop, and complete the uploads that they name, several at a time.

An event is a hint, and runs the same check as a client's `complete`. Events come at least once and in any order. A
message is deleted only after its effect is recorded; a message that cannot succeed is left to the queue's redrive.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from time import monotonic

import structlog

from broker import metrics
from broker.aws.queue import MAX_BATCH, Message, Queue
from broker.clock import Clock, utc_now
from broker.domain.keys import media_id_of, part_number_of
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
from broker.worker.places import Places

CONCURRENCY = 256
"""The maximum number of messages that are processed at a time."""
RECEIVERS = 8
"""The maximum number of receives at a time: each brings 10 messages at most. One is enough while the queue is short."""
STOP_SECONDS = 5.0
"""How long a stop waits for the current messages. Later ones are received again, as after a crash."""
MAX_HIDDEN_SECONDS = 900
"""The maximum delay before a message is received again after a transient failure; the delay doubles up to it."""
FIRST_REST_SECONDS = 1.0
MAX_REST_SECONDS = 60.0
"""The maximum pause while S3, the queue or the database is unavailable; the pause doubles up to it."""
TRANSIENT = (StorageUnavailable, StorageRefused, DatabaseUnavailable, CredentialsExpired, ProbeFailed)
"""Errors that pass, or that an operator has to fix; the message is not their cause."""
SETTLED = (MediaNotFound, NothingUploaded, UploadRejected, UploadExpired)
"""Results of a check that leave nothing to do."""

log = structlog.get_logger()


class Events:
    """The job of S3 events. Several replicas share the queue."""

    def __init__(self, queue: Queue, verbs: Lifecycle, *, bucket_name: str, clock: Clock = utc_now) -> None:
        self._queue = queue
        self._verbs = verbs
        self._bucket_name = bucket_name
        self._clock = clock
        self._stopping = asyncio.Event()
        self._is_long = asyncio.Event()
        """Set while each receive brings as many messages as it can: the queue is long."""
        self._places = Places(CONCURRENCY)
        self._rest_seconds = 0.0
        """The length of the last pause; 0 after a success."""
        self._rests_until = 0.0

    async def run(self) -> None:
        """Receive until `stop` is called, then finish the current messages within STOP_SECONDS."""
        try:
            async with asyncio.TaskGroup() as receivers:
                receivers.create_task(self._receive())
                for _ in range(RECEIVERS - 1):
                    receivers.create_task(self._help_to_receive())
        finally:
            if cancelled := await self._places.finish(STOP_SECONDS):
                log.warning("messages are left to another receive", count=cancelled)

    async def stop(self) -> None:
        """Let `run` end; messages that were received but not started are returned to the queue."""
        self._stopping.set()
        self._is_long.set()
        self._places.close()

    async def _receive(self) -> None:
        """Receive messages, and begin to process them."""
        while not self._stopping.is_set():
            await self._turn()

    async def _help_to_receive(self) -> None:
        """Receive as well while the queue is long."""
        while not self._stopping.is_set():
            await self._is_long.wait()
            await self._turn()

    async def _turn(self) -> None:
        """Receive up to 10 messages and begin to process them; then pause if S3, the queue or the database is away."""
        limit = await self._places.reserve(MAX_BATCH)
        messages: list[Message] = []
        try:
            messages = await self._received(limit) if limit else []
        finally:
            for message in messages:
                self._places.start(self._handle(message))
            self._places.release(limit - len(messages))
        if (rest := self._rests_until - monotonic()) > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), rest)

    async def _received(self, limit: int) -> list[Message]:
        try:
            messages = await self._queue.receive(limit)
        except QueueUnavailable as error:
            self._rest_longer(error)
            self._note_length(is_long=False)
            return []
        now = self._clock()
        metrics.QUEUE_LAG.set(max(((now - message.sent_at).total_seconds() for message in messages), default=0.0))
        self._note_length(is_long=len(messages) == limit)
        if not messages:
            self._rest_seconds = 0.0
        return messages

    def _note_length(self, *, is_long: bool) -> None:
        if is_long or self._stopping.is_set():
            self._is_long.set()
        else:
            self._is_long.clear()

    async def _handle(self, message: Message) -> None:
        """Process one message, then delete it or leave it to be received again. No failure ends the loop."""
        try:
            if self._stopping.is_set():
                await self._queue.hide(message, 0)
                return
            async with self._hidden(message):
                outcome = await self._outcome(message)
            if outcome in {"completed", "ignored"}:
                await self._queue.delete(message)
            elif outcome == "away":
                # SQS counts receives, and an outage should not use up those that the redrive allows.
                await self._queue.hide(message, self._longer_hidden(message))
            metrics.EVENTS.labels(outcome).inc()
        except QueueUnavailable as error:
            self._rest_longer(error)
        except Exception:
            log.exception("message failed", message_id=message.id)

    async def _outcome(self, message: Message) -> str:
        try:
            objects = created_objects(message.body)
            for created in objects:
                await self._complete(created)
        except TRANSIENT as error:
            self._rest_longer(error)
            return "away"
        except (BrokerError, EnvelopeUnknown) as error:
            # The first receive alone logs, so that there is one line however many workers share the queue.
            if message.receives == 1:
                log.error(
                    "message cannot be processed; it is left to the dead-letter queue",
                    message_id=message.id,
                    reason=str(error),
                )
            return "poison"
        self._rest_seconds = 0.0
        return "completed" if objects else "ignored"

    async def _complete(self, created: Created) -> None:
        """Complete the media of a staging object; ignore other buckets and other keys."""
        media_id, part = media_id_of(created.key), part_number_of(created.key)
        if media_id is None or created.bucket != self._bucket_name:
            return
        with suppress(*SETTLED):
            while True:
                try:
                    await self._verbs.confirm(media_id, None, part=part)
                except PromotionRunning:
                    if part is not None:
                        return  # it takes long, or waits for room; the sweep takes care of it
                    # Another caller promotes it, or crashed while doing so; each round waits, until its lease expires.
                    continue
                return

    @asynccontextmanager
    async def _hidden(self, message: Message) -> AsyncIterator[None]:
        """Hide the message from other workers while it is processed."""
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
                # Another worker may receive it now; its check finds the same media, and is harmless.
                log.warning("message could not be kept hidden", message_id=message.id, reason=str(error))

    def _longer_hidden(self, message: Message) -> int:
        return min(self._queue.config.visibility_seconds << (message.receives - 1), MAX_HIDDEN_SECONDS)

    def _rest_longer(self, error: BrokerError) -> None:
        """Begin a pause, twice as long as the last; failures during it are those of messages that were under way."""
        if monotonic() < self._rests_until:
            return
        self._rest_seconds = min(max(self._rest_seconds * 2, FIRST_REST_SECONDS), MAX_REST_SECONDS)
        self._rests_until = monotonic() + self._rest_seconds
        log.warning("events pause", reason=str(error), seconds=self._rest_seconds)
