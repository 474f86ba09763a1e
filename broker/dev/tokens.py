"""Tokens for development; in production an identity provider or your application mints them."""

from datetime import datetime, timedelta

import jwt


def mint_token(secret: str, *, owner: str, scope: str, ttl_seconds: int, now: datetime) -> str:
    """Return an HS256 token for `owner` that expires `ttl_seconds` after `now`.

    `scope` lists permissions, separated by spaces (RFC 8693, section 4.2).
    """
    claims = {"sub": owner, "scope": scope, "iat": now, "exp": now + timedelta(seconds=ttl_seconds)}
    return jwt.encode(claims, secret, algorithm="HS256")
