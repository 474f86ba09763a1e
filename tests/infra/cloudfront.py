"""A stand-in for CloudFront's control plane, which returns each configuration as Terraform stored it.

moto's own loses an origin's access control and cannot delete a key group. Like AWS, it keeps a public key that a key
group lists.
"""

import re
import uuid
from dataclasses import dataclass, field
from typing import Any

from tests.infra.account import ACCOUNT

Answer = tuple[int, dict[str, str], str]

BASE = "{0}/2020-05-31"


@dataclass(slots=True)
class Documents:
    """The resources of one kind, with their configurations unchanged."""

    kind: str
    users: "Documents | None" = None
    """The resources that list these by their ids, and so keep them from being deleted."""
    configurations: dict[str, str] = field(default_factory=dict)

    def collection(self, request: Any, _url: str, _headers: Any) -> Answer:
        """Create a resource from a POST to the collection."""
        name = f"E{uuid.uuid4().hex[:13].upper()}"
        return self._keep(201, name, request)

    def item(self, request: Any, url: str, _headers: Any) -> Answer:
        """Return, replace or delete a resource; its address may end in `/config`."""
        name = url.partition("?")[0].removesuffix("/config").rpartition("/")[2]
        if name not in self.configurations:
            return _refusal(404, f"NoSuch{self.kind}")
        match request.method:
            case "DELETE" if self._is_in_use(name):
                return _refusal(409, f"{self.kind}InUse")
            case "DELETE":
                del self.configurations[name]
                return 204, {}, ""
            case "PUT":
                return self._keep(200, name, request)
            case _:
                return self._shown(200, name)

    def _is_in_use(self, name: str) -> bool:
        return self.users is not None and any(name in user for user in self.users.configurations.values())

    def _keep(self, status: int, name: str, request: Any) -> Answer:
        body = request.get_data(as_text=True)
        configuration = re.search(rf"<{self.kind}Config[ >].*</{self.kind}Config>", body, re.DOTALL)
        if configuration is None:
            return _refusal(400, "MalformedXML")
        self.configurations[name] = _completed(configuration[0]) if self.kind == "Distribution" else configuration[0]
        return self._shown(status, name)

    def _shown(self, status: int, name: str) -> Answer:
        about = _about_distribution(name) if self.kind == "Distribution" else ""
        body = f"<{self.kind}><Id>{name}</Id>{about}{self.configurations[name]}</{self.kind}>"
        return status, {"ETag": f"V{uuid.uuid4().hex[:12]}", "Content-Type": "text/xml"}, body


def _refusal(status: int, code: str) -> Answer:
    return status, {}, f"<ErrorResponse><Error><Code>{code}</Code></Error></ErrorResponse>"


def _completed(configuration: str) -> str:
    """Return a distribution's configuration with every list that AWS always includes, empty if it was not sent."""
    lists = ("Aliases", "CacheBehaviors", "CustomErrorResponses", "OriginGroups")
    absent = [name for name in lists if f"<{name}>" not in configuration]
    empty = "".join(f"<{name}><Quantity>0</Quantity></{name}>" for name in absent)
    return configuration.removesuffix("</DistributionConfig>") + empty + "</DistributionConfig>"


def _about_distribution(name: str) -> str:
    return f"""<ARN>arn:aws:cloudfront::{ACCOUNT}:distribution/{name}</ARN>
        <Status>Deployed</Status>
        <DomainName>{name.lower()}.cloudfront.net</DomainName>
        <LastModifiedTime>2026-01-01T00:00:00Z</LastModifiedTime>
        <InProgressInvalidationBatches>0</InProgressInvalidationBatches>
        <ActiveTrustedSigners><Enabled>false</Enabled><Quantity>0</Quantity></ActiveTrustedSigners>
        <ActiveTrustedKeyGroups><Enabled>true</Enabled><Quantity>0</Quantity></ActiveTrustedKeyGroups>"""


def no_tags(_request: Any, _url: str, _headers: Any) -> Answer:
    """Return an empty list of tags."""
    return 200, {"Content-Type": "text/xml"}, "<Tags><Items></Items></Tags>"


def paths() -> dict[str, Any]:
    """Return fresh routes, in moto's notation."""
    kinds = {
        "distribution": "Distribution",
        "key-group": "KeyGroup",
        "public-key": "PublicKey",
        "origin-access-control": "OriginAccessControl",
        "cache-policy": "CachePolicy",
        "response-headers-policy": "ResponseHeadersPolicy",
    }
    routes: dict[str, Any] = {f"{BASE}/tagging$": no_tags}
    resources = {path: Documents(kind) for path, kind in kinds.items()}
    resources["public-key"].users = resources["key-group"]
    for path, documents in resources.items():
        routes[f"{BASE}/{path}$"] = documents.collection
        routes[f"{BASE}/{path}/(?P<name>[^/]+)$"] = documents.item
        routes[f"{BASE}/{path}/(?P<name>[^/]+)/config$"] = documents.item
    return routes
