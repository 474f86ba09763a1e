"""The services that the demands of a route ask, without a database or a network."""

from typing import Any

from broker.api.auth.keys import FixedKey
from broker.api.auth.tokens import Authenticator, RememberedTokens, TokenRules
from broker.api.auth.upload_tokens import UploadTokens
from broker.api.limits.limits import Limits
from broker.api.state import Services
from broker.clock import utc_now
from broker.domain.access.rate import Rate
from tests.support.serving import SECRET

RATES = {kind: Rate(2, 60) for kind in ("address", "issue", "playback", "health")}


def services_of(public_url: str | None = None) -> Services:
    """Return the services that demands ask; the others are absent."""
    absent: Any = None
    rules = TokenRules(algorithm="HS256")
    return Services(
        lifecycle=absent,
        erasure=absent,
        token_verbs=absent,
        waiting=absent,
        authenticator=Authenticator(FixedKey(SECRET.encode()), rules, RememberedTokens(size=0, seconds=0)),
        limits=Limits(RATES),  # type: ignore[arg-type]
        form_states=absent,
        upload_tokens=UploadTokens(SECRET, utc_now),
        health=absent,
        store=absent,
        public_url=public_url,
        rules=absent,
    )
