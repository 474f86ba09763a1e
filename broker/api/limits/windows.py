"""Fixed windows that count requests, and the limits on them."""

import time
from typing import Literal, NamedTuple, Protocol

from broker.domain.access.rate import Rate

Kind = Literal["address", "issue", "complete", "parts", "delete", "playback", "form", "health"]
"""The kinds of limits: all requests of an address, counted before the token is checked, then each kind of request."""

MAX_COUNTERS = 100_000
"""The maximum number of windows of one kind in a process; beyond it the oldest makes room."""


class BoundedMemory:
    """Fixed windows of one length, in seconds, counted in this process at constant cost and in bounded memory.

    The memory storage of the library `limits` walks through all its counters at each request.
    """

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        self._windows: dict[str, Window] = {}

    def count(self, client: str) -> "Window":
        """Count one more request of `client` and return its window."""
        now = time.monotonic()
        window = self._windows.get(client)
        if window is None or now >= window.ends_at:
            self._windows.pop(client, None)
            if len(self._windows) >= MAX_COUNTERS:
                del self._windows[next(iter(self._windows))]
            window = self._windows[client] = Window(now + self._seconds)
        window.count += 1
        return window


class Window:
    """The count of one window, and the instant at which it ends, by the monotonic clock."""

    __slots__ = ("count", "ends_at")

    def __init__(self, ends_at: float, count: int = 0) -> None:
        self.count = count
        self.ends_at = ends_at


class Limit:
    """A limit of one kind: an amount of requests within a number of seconds."""

    def __init__(self, kind: Kind, rate: Rate) -> None:
        self.kind = kind
        self.amount, self.seconds = rate
        self.policy = (b"ratelimit-policy", f'"{kind}";q={self.amount};w={self.seconds}'.encode())
        self.here = BoundedMemory(self.seconds)

    def key(self, client: str) -> str:
        """Return the Redis key for the requests of `client`."""
        return f"s3-media/{self.kind}/{self.amount}/{self.seconds}/{client}"


class Standing(NamedTuple):
    """A limit and its remaining quota."""

    limit: Limit
    remaining: int

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the response headers with the limit and the remaining quota, as ASGI pairs."""
        return [self.limit.policy, (b"ratelimit", f'"{self.limit.kind}";r={self.remaining}'.encode())]


class SharedWindows(Protocol):
    """Fixed windows that several processes count together."""

    async def count(self, limit: Limit, client: str) -> Window | None:
        """Count one more request of `client`. Return the window, or None if the shared storage is unavailable."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...
