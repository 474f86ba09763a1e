"""The keys that an identity provider publishes: cached, and refreshed without blocking or flooding it.

Source: RFC 7517, section 5 (JWK Set).
"""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import structlog

from broker.api.auth.keys import Key, published_key
from broker.errors import KeysUnavailable, NotAuthenticated

MAX_BYTES = 256 * 1024
MAX_KEYS = 100
FETCH_SECONDS = 5.0
"""The timeout of one whole fetch."""
COOLDOWN_SECONDS = 10.0
"""The minimum time between two fetches, whatever key ids the tokens name."""
STALE_SECONDS = 24 * 3600.0
"""How long cached keys are used while their address does not answer."""

log = structlog.get_logger()


class Jwks:
    """Cache the keys of a JWKS address for one algorithm.

    All waiting requests share one fetch. Keys older than `fresh_seconds` are fetched again; so they are for an unknown
    key id, but not before the cooldown has passed. If the address does not answer, the cached keys stay in use.
    """

    def __init__(
        self, url: str, algorithm: str, *, fresh_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Create the cache; nothing is fetched yet. Call it off the event loop, because it loads TLS certificates."""
        self.generation = 0
        self._url = url
        self._algorithm = algorithm
        self._fresh_seconds = fresh_seconds
        self._clock = clock
        self._http = httpx.AsyncClient(
            follow_redirects=False,
            timeout=FETCH_SECONDS,
            headers={"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"},
        )
        self._keys: dict[str | None, Key] = {}
        self._published: dict[str | None, dict[str, Any]] = {}
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._failing = False
        self._fetching: asyncio.Task[None] | None = None

    async def key(self, key_id: str | None) -> Key:
        """Return the key named `key_id`; a token without an id gets the key, if there is exactly one.

        Raises NotAuthenticated for an unknown key, or KeysUnavailable if the keys cannot be fetched.
        """
        age = self._clock() - self._fetched_at
        if age > STALE_SECONDS:
            self._forget()
        if age > self._fresh_seconds:
            fetching = self._fetch()
            if fetching is not None and not (self._keys and self._failing):
                await asyncio.shield(fetching)
        key = self._find(key_id)
        if key is None and (fetching := self._fetch()) is not None:
            await asyncio.shield(fetching)
            key = self._find(key_id)
        if key is not None:
            return key
        if self._failing:
            raise KeysUnavailable
        raise NotAuthenticated(reason="the token is not valid", token_sent=True)

    async def close(self) -> None:
        """Cancel the current fetch and close the connections."""
        if self._fetching is not None:
            self._fetching.cancel()
        await self._http.aclose()

    def _find(self, key_id: str | None) -> Key | None:
        if key_id is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(key_id)

    def _fetch(self) -> "asyncio.Task[None] | None":
        """Return the current fetch, or start one. Return None during the cooldown."""
        if self._fetching is None and self._clock() - self._tried_at >= COOLDOWN_SECONDS:
            self._tried_at = self._clock()
            self._fetching = asyncio.create_task(self._refresh())
        return self._fetching

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                self._replace(_keys_of(await self._download()))
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, RecursionError, TimeoutError) as error:
            self._failing = True
            log.warning("the keys that verify tokens could not be fetched", reason=type(error).__name__)
        finally:
            self._fetching = None

    async def _download(self) -> bytes:
        body = bytearray()
        async with self._http.stream("GET", self._url) as answer:
            if answer.status_code != 200 or "content-encoding" in answer.headers:
                raise ValueError
            async for part in answer.aiter_raw():
                body += part
                if len(body) > MAX_BYTES:
                    raise ValueError
        return bytes(body)

    def _replace(self, published: list[dict[str, Any]]) -> None:
        """Use the published keys. A withdrawn or replaced key invalidates the tokens that were verified with it.

        Raises ValueError if no key is usable with the algorithm; the cached keys then stay in use.
        """
        usable = [(jwk, key) for jwk in published if (key := self._usable(jwk)) is not None]
        if not usable:
            raise ValueError
        jwks = {jwk.get("kid"): jwk for jwk, _ in usable}
        if any(jwks.get(key_id) != jwk for key_id, jwk in self._published.items()):
            self.generation += 1
        self._keys = {jwk.get("kid"): key for jwk, key in usable}
        self._published = jwks
        self._fetched_at = self._clock()
        self._failing = False

    def _usable(self, jwk: dict[str, Any]) -> Key | None:
        """Return the key in a JWK, or None if it cannot be used; then the other keys stay in use."""
        try:
            return published_key(jwk, self._algorithm)
        except Exception as error:  # a malformed member may raise any error
            log.warning("a published key is unusable", key_id=jwk.get("kid"), reason=type(error).__name__)
            return None

    def _forget(self) -> None:
        if self._keys:
            self.generation += 1
        self._keys, self._published = {}, {}


def _keys_of(body: bytes) -> list[dict[str, Any]]:
    """Return the JWKs of a set. Raises ValueError if `body` is not a set, or has too many keys."""
    document = json.loads(body)
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list) or len(listed) > MAX_KEYS:
        raise ValueError
    return [jwk for jwk in listed if isinstance(jwk, dict) and isinstance(jwk.get("kid"), str | None)]
