"""The watch on clients that do not read: a write without progress ends its connection."""

import asyncio

MAX_STALL_SECONDS = 30.0
"""How long unsent bytes may stay the same number before their connection is aborted."""


class StallWatch:
    """Abort a connection whose unsent bytes do not become fewer within `seconds`.

    It is started after each write that may leave bytes unsent, and ends when none are left. An idle time-out is no
    substitute, because a closing transport waits for them too.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._transport = transport
        self._loop = loop
        self._seconds = seconds
        self._unsent = 0
        self._progress_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Watch the bytes that are unsent now, if there are any."""
        self._unsent = self._transport.get_write_buffer_size()
        if self._unsent:
            self._progress_at = self._loop.time()
            if self._timer is None:
                self._timer = self._loop.call_later(self._seconds, self._check)

    def stop(self) -> None:
        """End the watch."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        self._timer = None
        unsent, now = self._transport.get_write_buffer_size(), self._loop.time()
        if not unsent:
            return
        if unsent < self._unsent:
            self._unsent, self._progress_at = unsent, now
        elif now >= self._progress_at + self._seconds:
            self._transport.abort()
            return
        self._timer = self._loop.call_at(self._progress_at + self._seconds, self._check)
