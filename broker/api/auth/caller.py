"""Callers and their permissions, read from a token's claims."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from broker.domain.access.owners import is_owner
from broker.errors import NotAuthenticated, PermissionMissing

UPLOAD = "media:upload"
READ = "media:read"
DELETE = "media:delete"
DELEGATE = "media:delegate"
ADMIN = "media:admin"
PERMISSIONS = (UPLOAD, READ, DELETE, DELEGATE, ADMIN)
GRANTS = {**{name: frozenset({name}) for name in PERMISSIONS}, "media:*": frozenset({UPLOAD, READ, DELETE})}
"""The permissions that each name in a token grants. The wildcard grants neither `media:delegate` nor `media:admin`."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The owner that a token names and its permissions, or the holder of an upload token."""

    owner: str
    permissions: frozenset[str]
    upload: UUID | None = None
    """The only media that an upload token gives access to. Its holder has no permissions."""

    @property
    def reach(self) -> str | None:
        """Return the owner whose media the caller may access, or None for all owners."""
        return None if ADMIN in self.permissions or self.upload is not None else self.owner

    def require(self, permission: str) -> None:
        """Raise PermissionMissing unless the token grants `permission` or `media:admin`."""
        if permission not in self.permissions and ADMIN not in self.permissions:
            raise PermissionMissing(permission=permission)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimNames:
    """The claims in which an issuer writes the owner and the permissions.

    A claim is looked up by its whole name, then as a dotted path (`realm_access.roles`). A name on the path may have
    dots itself, as the client id in `resource_access.my.app.roles`.
    """

    owner: str = "sub"
    permissions: tuple[str, ...] = ("scope", "scp", "permissions")
    prefix: str = ""
    """The prefix of each permission, such as `https://api.example/`; names without it then grant nothing."""
    default: frozenset[str] = field(default_factory=frozenset)
    """The permissions of a token that has none of the claims."""

    def caller(self, claims: Mapping[str, Any]) -> Caller:
        """Return the caller that verified claims name. Raises NotAuthenticated if they name none."""
        owner = claim(claims, self.owner)
        if isinstance(owner, int) and not isinstance(owner, bool) and self.owner != "sub":
            owner = str(owner)  # the id of a database's row; `sub` must be text (RFC 7519, section 4.1.2)
        if not is_owner(owner):
            named = "subject" if self.owner == "sub" else f"claim {self.owner}, which names the owner,"
            raise NotAuthenticated(reason=f"its {named} is missing or not valid", token_sent=True)
        return Caller(owner, self._permissions(claims))

    def _permissions(self, claims: Mapping[str, Any]) -> frozenset[str]:
        """Return the granted permissions; a claim is space-separated text (RFC 6749, section 3.3) or a list."""
        values = [value for value in (claim(claims, name) for name in self.permissions) if value is not None]
        if not values:
            return self.default
        granted: set[str] = set()
        for value in values:
            names = value.split(" ") if isinstance(value, str) else value if isinstance(value, list) else ()
            for name in names:
                if isinstance(name, str) and name.startswith(self.prefix):
                    granted |= GRANTS.get(name.removeprefix(self.prefix), frozenset())
        return frozenset(granted)


def claim(claims: Mapping[str, Any], name: str) -> Any:
    """Return the claim of a whole name or, failing that, at the end of a dotted path; None if there is none."""
    if name in claims:
        return claims[name]
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):  # the longest name first
        inner = claims.get(".".join(parts[:length]))
        if isinstance(inner, dict) and (value := claim(inner, ".".join(parts[length:]))) is not None:
            return value
    return None
