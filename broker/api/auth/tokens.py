"""The verification of bearer tokens: one pinned algorithm, strict JSON, checked claims, and a short-lived cache.

Sources: RFC 7515 (JWS), RFC 7519 (JWT), RFC 8725 (JWT Best Current Practices).
"""

import hashlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jwt
from jwt.utils import base64url_decode

from broker.api.auth.caller import Caller, ClaimNames, claim
from broker.api.auth.keys import KeySource
from broker.errors import NotAuthenticated

MAX_TOKEN_LENGTH = 8192
EARLY_SECONDS = 5
"""The allowed clock skew for `iat` and `nbf` if no leeway is set: a token is often used in the second of its issue.

For `exp` there is none then, because a token lives for minutes and loses nothing by the skew.
"""
MAX_NUMERIC_DATE = 253_402_300_799
"""The last second of the year 9999, which is the last that Python's datetime can hold."""
TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
"""The values of `typ` that an access token may have (RFC 9068, section 2.1), in lower case."""

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRules:
    """The rules by which tokens are accepted. Durations are seconds."""

    algorithm: str
    """The only accepted algorithm; the `alg` of a token must equal it."""
    issuers: tuple[str, ...] = ()
    audiences: tuple[str, ...] = ()
    audience_claim: str = "aud"
    leeway_seconds: int | None = None
    """The allowed clock skew for `iat`, `nbf` and `exp`; None: EARLY_SECONDS for the first two, none for `exp`."""
    claims: ClaimNames = ClaimNames()  # noqa: RUF009 frozen, so it can be shared


class RememberedTokens:
    """Cache the callers of verified tokens: at most `size`, each for `seconds` and never beyond its `exp`.

    The cache's keys are digests, so that a memory dump holds no token. Nothing is cached if either bound is 0.
    """

    def __init__(self, *, size: int, seconds: float) -> None:
        self._size = size if seconds > 0 else 0
        self._seconds = seconds
        self._known: dict[bytes, tuple[Caller, float]] = {}

    def get(self, digest: bytes, now: float) -> Caller | None:
        """Return the caller of a token that is cached at `now`, or None."""
        known = self._known.get(digest)
        return known[0] if known is not None and now < known[1] else None

    def add(self, digest: bytes, caller: Caller, *, now: float, expires_at: float) -> None:
        """Cache a verified token; the oldest entry makes room for it."""
        if not self._size:
            return
        self._known.pop(digest, None)
        if len(self._known) >= self._size:
            del self._known[next(iter(self._known))]
        self._known[digest] = (caller, min(now + self._seconds, expires_at))

    def clear(self) -> None:
        """Empty the cache."""
        self._known.clear()


class Authenticator:
    """Verify tokens with the keys of `keys` and by `rules`. `exp` and the claim of the owner are required."""

    def __init__(self, keys: KeySource, rules: TokenRules, remembered: RememberedTokens) -> None:
        self._keys = keys
        self._rules = rules
        self._remembered = remembered
        self._generation = keys.generation
        self._jwt = _StrictJWT()

    async def caller(self, token: str) -> Caller:
        """Return the caller that a token names.

        Raises NotAuthenticated, which gives the reason but quotes nothing, and KeysUnavailable.
        """
        if self._generation != self._keys.generation:
            self._remembered.clear()
            self._generation = self._keys.generation
        if len(token) > MAX_TOKEN_LENGTH:
            raise _refused(f"it is longer than {MAX_TOKEN_LENGTH} bytes")
        if not token.isascii():
            raise _refused()
        now = time.time()
        digest = hashlib.sha256(token.encode()).digest()
        caller = self._remembered.get(digest, now)
        if caller is None:
            claims = await self._verified(token)
            caller = self._rules.claims.caller(claims)
            self._remembered.add(digest, caller, now=now, expires_at=claims["exp"])
        return caller

    async def _verified(self, token: str) -> dict[str, Any]:
        key = await self._keys.key(self._key_id(token))
        leeway = self._rules.leeway_seconds
        try:
            claims: dict[str, Any] = self._jwt.decode(
                token,
                key,
                algorithms=[self._rules.algorithm],
                issuer=self._rules.issuers or None,
                leeway=EARLY_SECONDS if leeway is None else leeway,
                options={
                    "require": ["exp"],
                    "verify_aud": False,
                    "verify_sub": False,  # ClaimNames checks the claim that names the owner
                    "enforce_minimum_key_length": True,
                },
            )
        except jwt.ExpiredSignatureError:
            raise _refused("it has expired") from None
        except jwt.ImmatureSignatureError:
            raise _refused("it is not valid yet") from None
        except (jwt.InvalidIssuerError, jwt.MissingRequiredClaimError):
            raise _refused("a required claim is missing, or its issuer is not accepted") from None
        except jwt.PyJWTError:
            raise _refused() from None
        if leeway is None and claims["exp"] <= time.time():
            raise _refused("it has expired")
        if self._rules.audiences and not set(self._rules.audiences) & set(_audience(claims, self._rules)):
            raise _refused("its audience is not accepted")
        return claims

    def _key_id(self, token: str) -> str | None:
        """Return the `kid` of a token, or None if it has none. Raises NotAuthenticated if the header is not acceptable.

        `jku`, `jwk`, `x5u` and `x5c` are ignored, so they are never followed.
        """
        if not _COMPACT.fullmatch(token):
            raise _refused()
        try:
            header = _strict_object(base64url_decode(token.partition(".")[0]))
        except (ValueError, RecursionError):
            raise _refused() from None
        if header.get("alg") != self._rules.algorithm:
            raise _refused(f"its algorithm is not {self._rules.algorithm}")
        if "crit" in header or "b64" in header:
            raise _refused()
        kind, key_id = header.get("typ", "JWT"), header.get("kid")
        if not isinstance(kind, str) or kind.lower() not in TYPES or not isinstance(key_id, str | None):
            raise _refused()
        return key_id


class _StrictJWT(jwt.PyJWT):
    """PyJWT with strict claims: no duplicate names, no NaN, and numeric dates only."""

    def _decode_payload(self, decoded: dict[str, Any]) -> dict[str, Any]:
        try:
            claims = _strict_object(decoded["payload"])
        except (ValueError, RecursionError):
            raise jwt.DecodeError("the claims are not a JSON object") from None
        for name in ("exp", "nbf", "iat"):
            if name in claims and not _is_numeric_date(claims[name]):
                raise jwt.DecodeError(f"{name} is not a NumericDate")
        return claims


def _strict_object(text: bytes) -> dict[str, Any]:
    """Parse a JSON object in UTF-8. Raises ValueError also for a duplicate name (RFC 7519, section 4)."""
    document = json.loads(text.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    if not isinstance(document, dict):
        raise ValueError
    return document


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError
    return members


def _no_constant(_: str) -> None:
    raise ValueError


def _is_numeric_date(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_NUMERIC_DATE


def _audience(claims: dict[str, Any], rules: TokenRules) -> list[str]:
    """Return a token's audiences; the claim holds one name or a list of names (RFC 7519, section 4.1.3)."""
    value = claim(claims, rules.audience_claim)
    names = value if isinstance(value, list) else [value]
    named = [name for name in names if isinstance(name, str)]
    return named if len(named) == len(names) else []


def _refused(reason: str = "the token is not valid") -> NotAuthenticated:
    return NotAuthenticated(reason=reason, token_sent=True)
