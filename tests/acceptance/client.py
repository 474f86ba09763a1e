"""A client of the broker's HTTP interface that uploads to S3 as a browser does."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import jwt

from broker.app import PREFIX
from broker.domain.keys import final_key, staging_key
from tests.acceptance.forms import VIDEO, Form, multipart
from tests.acceptance.servers import S3

TYPE = "video/mp4"
SECRET = "a secret that only the tests use, of 32 bytes and more"


@dataclass
class Client:
    """One user of a broker in front of one S3 server."""

    http: httpx.Client
    s3: S3
    owner: str = "anna"
    issued: list[UUID] = field(default_factory=list)

    @property
    def _headers(self) -> dict[str, str]:
        claims = {
            "sub": self.owner,
            "exp": datetime.now(UTC) + timedelta(hours=1),
            "scope": "media:upload media:read media:delete",
        }
        return {"Authorization": f"Bearer {jwt.encode(claims, SECRET)}"}

    def issue(self, **members: Any) -> dict[str, Any]:
        """Request an upload with these members in its body. The broker must accept it."""
        answer = self.http.post(f"{PREFIX}/upload", json={"content_type": TYPE, **members}, headers=self._headers)
        assert answer.status_code == 201, answer.text
        issued: dict[str, Any] = answer.json()
        self.issued.append(UUID(issued["media_id"]))
        return issued

    def upload(
        self, issued: dict[str, Any], content: bytes = VIDEO, change: Callable[[Form], Form] = lambda form: form
    ) -> httpx.Response:
        """Post the issued fields and the file to S3, as `change` returns them."""
        content_type, body = multipart(change([*issued["upload"]["fields"].items(), ("file", content)]))
        return self.s3.http.post(issued["upload"]["url"], headers={"Content-Type": content_type}, content=body)

    def complete(self, issued: dict[str, Any]) -> httpx.Response:
        """Complete the upload."""
        return self.http.post(issued["complete_url"], headers=self._headers)

    def playback(self, issued: dict[str, Any], **parameters: Any) -> httpx.Response:
        """Request a playback link."""
        return self.http.get(f"{PREFIX}/{issued['media_id']}", params=parameters, headers=self._headers)

    def delete(self, issued: dict[str, Any]) -> httpx.Response:
        """Delete the media."""
        return self.http.delete(f"{PREFIX}/{issued['media_id']}", headers=self._headers)

    def objects(self, issued: dict[str, Any]) -> set[str]:
        """Return the objects of the media that are in the bucket: `staging`, `final`, both or none."""
        prefixes = _prefixes(UUID(issued["media_id"]))
        return {name for name, prefix in prefixes.items() if self.s3.keys(prefix)}

    def versions(self, issued: dict[str, Any]) -> list[str]:
        """Return the keys of all versions and delete markers of the media in the bucket."""
        keys: list[str] = []
        for prefix in _prefixes(UUID(issued["media_id"])).values():
            listing = self.s3.client.list_object_versions(Bucket=self.s3.bucket, Prefix=prefix)
            keys += [entry["Key"] for kind in ("Versions", "DeleteMarkers") for entry in listing.get(kind, [])]
        return keys

    def remove_objects(self) -> None:
        """Delete all objects of this client's media from the bucket."""
        for media_id in self.issued:
            for prefix in _prefixes(media_id).values():
                for key in self.s3.keys(prefix):
                    self.s3.client.delete_object(Bucket=self.s3.bucket, Key=key)


def _prefixes(media_id: UUID) -> dict[str, str]:
    """Return the prefix of the staging keys, and the one that the final keys of all attempts share."""
    return {"staging": staging_key(media_id), "final": final_key(media_id, TYPE, 0).rpartition(".")[0]}
