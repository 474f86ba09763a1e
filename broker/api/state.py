"""The services of the routes: built once by the app's lifespan, and kept in the request's state."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import Request

from broker.domain.rules import Rules
from broker.lifecycle.erasure import Erasure
from broker.lifecycle.token_verbs import TokenVerbs
from broker.lifecycle.verbs import Lifecycle
from broker.lifecycle.waiting import Waiting
from broker.store import Store

if TYPE_CHECKING:
    from broker.api.auth.form_states import FormStates
    from broker.api.auth.tokens import Authenticator
    from broker.api.auth.upload_tokens import UploadTokens
    from broker.api.limits.limits import Limits
    from broker.aws.health import Health

STATE_NAME = "s3_media"
NOT_STARTED = (
    "the broker was not started, because app.mount() does not run the lifespan of a mounted application: "
    "use app.include_router(create_router(settings), prefix=...) instead, "
    "or give the outer application lifespan=broker_app.router.lifespan_context"
)


@dataclass(frozen=True, slots=True)
class Services:
    """The services that routes call."""

    lifecycle: Lifecycle
    erasure: Erasure
    token_verbs: TokenVerbs
    waiting: Waiting
    authenticator: "Authenticator"
    limits: "Limits"
    form_states: "FormStates"
    upload_tokens: "UploadTokens"
    health: "Health"
    store: Store
    public_url: str | None
    rules: Rules


def services(request: Request) -> Services:
    """Return the services that the lifespan built. Raises RuntimeError if no server has run it."""
    built: Services | None = request.scope.get("state", {}).get(STATE_NAME)
    if built is None:
        raise RuntimeError(NOT_STARTED)
    return built
