"""Who calls: bearer tokens to callers, and what each may do."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

import jwt
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from broker.api.state import services
from broker.errors import NotAuthenticated, PermissionMissing

UPLOAD = "media:upload"
READ = "media:read"
DELETE = "media:delete"
ADMIN = "media:admin"
PERMISSIONS = (UPLOAD, READ, DELETE, ADMIN)
MAX_OWNER_LENGTH = 255

_bearer = HTTPBearer(auto_error=False, description="A JWT with `sub`, `exp` and `scope` or `permissions`.")


@dataclass(frozen=True, slots=True)
class Caller:
    """Name who calls, by the token's `sub`, and what the token permits."""

    owner: str
    permissions: frozenset[str]

    @property
    def reach(self) -> str | None:
        """Return whose media the caller may touch; None: everyone's."""
        return None if ADMIN in self.permissions else self.owner

    def require(self, permission: str) -> None:
        """Raise PermissionMissing unless the token permits it; an administrator may do all."""
        if not self.permissions & {permission, ADMIN}:
            raise PermissionMissing(permission=permission)


class Authenticator:
    """Verify HS256 tokens with one secret. `exp` and `sub` are required."""

    def __init__(self, secret: str, *, leeway_seconds: int = 0) -> None:
        self._secret = secret
        self._leeway_seconds = leeway_seconds

    def caller(self, token: str) -> Caller:
        """Return the caller that a token names. Raises NotAuthenticated, which says why but quotes nothing."""
        try:
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=["HS256"],
                leeway=self._leeway_seconds,
                options={"require": ["exp", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise NotAuthenticated(reason="it has ended", token_sent=True) from None
        except jwt.PyJWTError:
            raise NotAuthenticated(reason="the one sent is not valid", token_sent=True) from None
        owner = claims["sub"]
        if not isinstance(owner, str) or not 1 <= len(owner) <= MAX_OWNER_LENGTH or not owner.isprintable():
            raise NotAuthenticated(reason="its subject is not valid", token_sent=True)
        return Caller(owner, _permissions(claims))


def _permissions(claims: dict[str, Any]) -> frozenset[str]:
    """Return the permissions in `scope` (RFC 8693, section 4.2: separated by spaces) and `permissions` (a list)."""
    scope, listed = claims.get("scope"), claims.get("permissions")
    named = scope.split() if isinstance(scope, str) else []
    if isinstance(listed, list):
        named += listed
    return frozenset(name for name in named if isinstance(name, str))


def permit(permission: str) -> Callable[..., Awaitable[Caller]]:
    """Return a dependency on a caller whose token carries `permission`."""

    async def caller(
        request: Request, bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
    ) -> Caller:
        if bearer is None:
            raise NotAuthenticated(reason="there is none", token_sent=False)
        found = services(request).authenticator.caller(bearer.credentials)
        found.require(permission)
        return found

    return caller


Uploader = Annotated[Caller, Depends(permit(UPLOAD))]
Reader = Annotated[Caller, Depends(permit(READ))]
Deleter = Annotated[Caller, Depends(permit(DELETE))]
