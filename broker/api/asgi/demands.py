"""The demands of a route: the address's limit, the token, its permission, and the owner's limit, in this order.

Demands are met before the body is read. A route declares one by a parameter such as `caller: Uploader`; `ProblemRoute`
meets it first, also if the router is mounted in another application.
"""

from abc import ABC, abstractmethod
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from broker.api.asgi.fields import field_of, is_repeated
from broker.api.auth.caller import ADMIN, DELEGATE, DELETE, READ, UPLOAD, Caller
from broker.api.auth.upload_tokens import PREFIX
from broker.api.limits.limits import counted_address
from broker.api.limits.windows import Kind, Standing
from broker.api.state import services
from broker.errors import MediaNotFound, NotAuthenticated, PermissionMissing

CALLER = "s3_media.caller"
"""The key of the admitted caller in the request's scope."""


class Demand(ABC):
    """Base of the conditions that a request meets before its route runs."""

    @abstractmethod
    async def admit(self, request: Request) -> Standing | None:
        """Admit the request and return the remaining quota of its rate limit. Raises the reason for a refusal."""


class AddressDemand(Demand):
    """Demand that the client's address is within the limit of `kind`."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    async def admit(self, request: Request) -> Standing | None:
        """Count the request. Raises RateLimited."""
        return await services(request).limits.count(self.kind, client_address(request))

    async def __call__(self) -> None:
        """Return None to the route, which has met this demand already."""


class TokenDemand(Demand, SecurityBase):
    """Demand a token that carries `permission`, and that its owner is within the limit of `kind`.

    With `or_upload_token`, on a route of one media, the upload token of that media is enough. With `spare_delegates`,
    the route counts a delegate itself, under the owner on whose behalf it asks.
    """

    def __init__(
        self, permission: str, kind: Kind, *, or_upload_token: bool = False, spare_delegates: bool = False
    ) -> None:
        self.permission = permission
        self.kind = kind
        self.or_upload_token = or_upload_token
        self.spare_delegates = spare_delegates
        self.scheme_name = "bearer"
        self.model = HTTPBearer(
            bearerFormat="JWT",
            description="A JWT that names its owner and its permissions. On the routes of one media, its upload_token.",
        )

    async def admit(self, request: Request) -> Standing | None:
        """Admit the caller.

        Raises RateLimited, NotAuthenticated, KeysUnavailable, PermissionMissing, and MediaNotFound for an upload token
        of another media.
        """
        built = services(request)
        of_address = await built.limits.count("address", client_address(request))
        token = bearer_token(request)
        if token.startswith(PREFIX):
            caller = built.upload_tokens.caller(token)
            if not self.or_upload_token:
                raise PermissionMissing(permission=self.permission)
        else:
            caller = await built.authenticator.caller(token)
            caller.require(self.permission)
        request.scope[CALLER] = caller
        spared = self.spare_delegates and DELEGATE in caller.permissions
        standing = None if spared else await built.limits.count(self.kind, caller.owner)
        if caller.upload is not None and not _is_for(request, caller.upload):
            raise MediaNotFound
        return standing or of_address

    async def __call__(self, request: Request) -> Caller:
        """Return the caller that the ProblemRoute admitted."""
        caller: Caller = request.scope[CALLER]
        return caller


def _is_for(request: Request, media_id: UUID) -> bool:
    """Return whether a request is for this media, or for none that can exist."""
    try:
        return UUID(request.scope["path_params"]["media_id"]) == media_id
    except ValueError:
        return True  # the route answers that this is not an id


def bearer_token(request: Request) -> str:
    """Return the token of the one `Authorization: Bearer` field (RFC 6750, section 2.1). Raises NotAuthenticated."""
    field = field_of(request.scope, b"authorization")
    if field is None:
        raise NotAuthenticated(reason="there is none", token_sent=False)
    scheme, _, token = field.partition(b" ")
    if scheme.lower() != b"bearer" or not token or is_repeated(request.scope, b"authorization"):
        raise NotAuthenticated(
            reason="there must be one Authorization field, of the form 'Bearer <token>'", token_sent=True
        )
    return token.strip(b" ").decode("latin-1")


def client_address(request: Request) -> str:
    """Return the client's address as the limits count it, from the server or a trusted proxy."""
    client: Any = request.scope.get("client")
    return counted_address(client[0] if client else None)


Uploader = Annotated[Caller, Depends(TokenDemand(UPLOAD, "issue", spare_delegates=True))]
RuleReader = Annotated[Caller, Depends(TokenDemand(UPLOAD, "playback"))]
Completer = Annotated[Caller, Depends(TokenDemand(UPLOAD, "complete", or_upload_token=True))]
PartsUploader = Annotated[Caller, Depends(TokenDemand(UPLOAD, "parts", or_upload_token=True))]
Viewer = Annotated[Caller, Depends(TokenDemand(READ, "playback", or_upload_token=True))]
Reader = Annotated[Caller, Depends(TokenDemand(READ, "playback"))]
Deleter = Annotated[Caller, Depends(TokenDemand(DELETE, "delete", or_upload_token=True))]
Administrator = Annotated[Caller, Depends(TokenDemand(ADMIN, "delete"))]
