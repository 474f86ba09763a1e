"""The windows that requests are counted in, and the limits over them."""

import time
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from broker.domain.rate import Rate

if TYPE_CHECKING:
    pass


Kind = Literal["address", "issue", "complete", "delete", "playback", "form", "health"]
"""What is counted: all of an address before its token is looked at, and then each thing by itself."""


MAX_COUNTERS = 100_000
"""How many windows of one kind a process counts at most; beyond that the oldest makes room."""


class BoundedMemory:
    """Count fixed windows of one length, in seconds, in this process: at a constant cost for each request and within a
    bounded memory.

    The memory of the library `limits` looks through all its counters whenever it counts.
    """

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        self._windows: dict[str, Window] = {}

    def count(self, who: str) -> "Window":
        """Count one more; return the window."""
        now = time.time()
        window = self._windows.get(who)
        if window is None or now >= window.ends_at:
            self._windows.pop(who, None)
            if len(self._windows) >= MAX_COUNTERS:
                del self._windows[next(iter(self._windows))]
            window = self._windows[who] = Window(now + self._seconds)
        window.count += 1
        return window


class Window:
    """Hold what was counted until a window ends."""

    __slots__ = ("count", "ends_at")

    def __init__(self, ends_at: float, count: int = 0) -> None:
        self.count = count
        self.ends_at = ends_at


class Limit:
    """One kind of limit: how many requests within how many seconds."""

    def __init__(self, kind: Kind, rate: Rate) -> None:
        self.kind = kind
        self.amount, self.seconds = rate
        self.policy = (b"ratelimit-policy", f'"{kind}";q={self.amount};w={self.seconds}'.encode())
        self.here = BoundedMemory(self.seconds)

    def key(self, who: str) -> str:
        """Return what the requests of `who` are counted under in Redis."""
        return f"s3-media/{self.kind}/{self.amount}/{self.seconds}/{who}"


class Standing(NamedTuple):
    """Say how much of a limit is left."""

    limit: Limit
    remaining: int

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the fields that tell a client, as ASGI sends them."""
        return [self.limit.policy, (b"ratelimit", f'"{self.limit.kind}";r={self.remaining}'.encode())]


class SharedWindows(Protocol):
    """Count fixed windows for several processes together."""

    async def count(self, limit: Limit, who: str) -> Window | None:
        """Count one more request of `who`. Return the window, or None if the shared storage is unavailable."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...
