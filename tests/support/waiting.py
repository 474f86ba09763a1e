"""Waiting for what has no event of its own: a condition is asked again and again."""

import time
from collections.abc import Callable

import httpx


def until(holds: Callable[[], object], seconds: float = 100) -> None:
    """Wait until `holds` returns something true; fail after so many seconds, which a loaded machine does not need."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"it does not hold after {seconds:g} s"
        time.sleep(0.05)


def answers(url: str, path: str = "/healthz") -> bool:
    """Return whether a server answers there: one of several processes says where it serves before any listens."""
    try:
        return httpx.get(url + path).status_code == 200
    except httpx.TransportError:
        return False
