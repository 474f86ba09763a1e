"""The keys that an identity provider publishes: cached, and refreshed without blocking or flooding it.

Source: RFC 7517, section 5 (JWK Set).
"""

import asyncio
import json
import time
import zlib
from collections import OrderedDict
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
"""The average time between two fetches, at least, whatever key ids the tokens name."""
FETCHES_IN_A_ROW = 3
"""How many fetches may follow one another without a pause; a key that was rotated just after a fetch is found so."""
MAX_ABSENT = 100
"""How many unknown key ids are remembered; each is looked for once in a cooldown."""
GZIP = 16 + zlib.MAX_WBITS
"""zlib's parameter for a stream with the header and checksum of gzip."""
STALE_SECONDS = 24 * 3600.0
"""How long cached keys are used while their address does not answer."""

log = structlog.get_logger()


class FetchBudget:
    """A bound on fetches: FETCHES_IN_A_ROW at once, and one more after each cooldown."""

    def __init__(self) -> None:
        self._spent_until = float("-inf")

    def take(self, now: float) -> bool:
        """Return whether a fetch may begin now, and count it."""
        if self._spent_until - now > (FETCHES_IN_A_ROW - 1) * COOLDOWN_SECONDS:
            return False
        self._spent_until = max(self._spent_until, now) + COOLDOWN_SECONDS
        return True


class Jwks:
    """Cache the keys of a JWKS address for one algorithm.

    All waiting requests share one fetch. Keys older than `fresh_seconds` are fetched again, and so they are for an
    unknown key id; FetchBudget bounds both together. If the address does not answer, the cached keys stay in use.
    """

    def __init__(
        self,
        url: str,
        algorithm: str,
        *,
        fresh_seconds: float,
        proxy_url: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create the cache; nothing is fetched yet. Call it off the event loop, because it loads TLS certificates."""
        self.generation = 0
        self._url = url
        self._algorithm = algorithm
        self._fresh_seconds = fresh_seconds
        self._clock = clock
        self._http = httpx.AsyncClient(
            follow_redirects=False,
            proxy=proxy_url,
            trust_env=False,  # the settings name the proxy
            timeout=FETCH_SECONDS,
            headers={"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "gzip"},
        )
        self._keys: dict[str | None, Key] = {}
        self._published: dict[str | None, dict[str, Any]] = {}
        self._fetched_at = float("-inf")
        self._looked_at = float("-inf")
        """When the latest finished fetch began."""
        self._budget = FetchBudget()
        self._absent: OrderedDict[str | None, float] = OrderedDict()
        self._failing = False
        self._fetching: asyncio.Task[None] | None = None

    async def key(self, key_id: str | None) -> Key:
        """Return the key named `key_id`; a token without an id gets the key, if there is exactly one.

        Raises NotAuthenticated for an unknown key, or KeysUnavailable if the keys cannot be fetched.
        """
        now = self._clock()
        await self._renew_if_old(now)
        key = self._find(key_id)
        if key is None and not self._is_absent(key_id):
            key = await self._look_for(key_id, now)
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

    async def _renew_if_old(self, now: float) -> None:
        """Fetch keys that are no longer fresh. If the last fetch failed, cached keys are used meanwhile."""
        age = now - self._fetched_at
        if age > STALE_SECONDS:
            self._forget()
        if age > self._fresh_seconds:
            fetching = self._fetch()
            if fetching is not None and not (self._keys and self._failing):
                await asyncio.shield(fetching)

    def _find(self, key_id: str | None) -> Key | None:
        if key_id is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(key_id)

    async def _look_for(self, key_id: str | None, since: float) -> Key | None:
        """Return a key that a fetch brought which began at `since` or later, or None.

        A fetch that was under way then may have been answered before the key was published.
        """
        while self._looked_at < since:
            fetching = self._fetch()
            if fetching is None:
                return None
            await asyncio.shield(fetching)
            if (key := self._find(key_id)) is not None:
                return key
        if not self._failing:
            self._absent[key_id] = self._clock()
            if len(self._absent) > MAX_ABSENT:
                self._absent.popitem(last=False)
        return None

    def _is_absent(self, key_id: str | None) -> bool:
        """Return whether this key was looked for in vain just now. A client that repeats itself causes no fetch."""
        return self._clock() - self._absent.get(key_id, float("-inf")) < COOLDOWN_SECONDS

    def _fetch(self) -> "asyncio.Task[None] | None":
        """Return the current fetch, or start one. Return None if too many have followed one another."""
        if self._fetching is None and self._budget.take(self._clock()):
            self._fetching = asyncio.create_task(self._refresh())
        return self._fetching

    async def _refresh(self) -> None:
        began_at = self._clock()
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                self._replace(_keys_of(await self._download()))
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, RecursionError, TimeoutError, zlib.error) as error:
            self._failing = True
            log.warning("the keys that verify tokens could not be fetched", reason=type(error).__name__)
        finally:
            self._looked_at = began_at
            self._fetching = None

    async def _download(self) -> bytes:
        body = bytearray()
        async with self._http.stream("GET", self._url) as answer:
            encoding = answer.headers.get("content-encoding", "identity").lower()
            if answer.status_code != 200 or encoding not in {"identity", "gzip", "x-gzip"}:
                raise ValueError
            unpack = None if encoding == "identity" else zlib.decompressobj(wbits=GZIP)
            async for part in answer.aiter_raw():
                body += part if unpack is None else unpack.decompress(part, MAX_BYTES + 1 - len(body))
                if len(body) > MAX_BYTES:
                    raise ValueError
            if unpack is not None and not unpack.eof:
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
