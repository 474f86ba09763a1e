"""Tokens for development; in production an identity provider or your application mints them."""

from datetime import datetime, timedelta
from typing import Any

import jwt

from broker.api.auth.tokens import TokenRules
from broker.domain.access.jws import SECRET_BYTES
from broker.errors import SettingsInvalid

HS256 = TokenRules(algorithm="HS256")


def mint_token(
    secret: str, *, owner: str, scope: str, ttl_seconds: int, now: datetime, rules: TokenRules = HS256
) -> str:
    """Return a token for `owner` that `rules` accept until `ttl_seconds` after `now`.

    `scope` lists permissions, separated by spaces (RFC 8693, section 4.2). The token has the first of the issuers, the
    audiences and the claims of permissions. Raises SettingsInvalid if a shared secret cannot sign it.
    """
    if rules.algorithm not in SECRET_BYTES:
        raise SettingsInvalid(
            problems=f"BROKER_JWKS_URL, BROKER_JWT_PUBLIC_KEY: one is set, so tokens are signed by {rules.algorithm} "
            "with a private key, which the broker does not have; get a token from your identity provider"
        )
    names = rules.claims
    claims: dict[str, Any] = {"sub": owner, "iat": now, "exp": now + timedelta(seconds=ttl_seconds)}
    claims[names.owner] = owner
    if names.permissions:
        claims[names.permissions[0]] = " ".join(names.prefix + name for name in scope.split())
    if rules.issuers:
        claims["iss"] = rules.issuers[0]
    if rules.audiences:
        claims[rules.audience_claim] = rules.audiences[0]
    return jwt.encode(claims, secret, algorithm=rules.algorithm)
