"""A client of the broker: it asks over HTTP, and uploads to S3 as a browser does."""

import time
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
    """One user of a broker in front of one S3."""

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

    def issue(self, **asked: Any) -> dict[str, Any]:
        """Ask for an upload; the answer must be good."""
        answer = self.http.post(f"{PREFIX}/upload", json={"content_type": TYPE, **asked}, headers=self._headers)
        assert answer.status_code == 201, answer.text
        issued: dict[str, Any] = answer.json()
        self.issued.append(UUID(issued["media_id"]))
        return issued

    def upload(
        self, issued: dict[str, Any], content: bytes = VIDEO, change: Callable[[Form], Form] = lambda form: form
    ) -> httpx.Response:
        """Post the issued fields and the file to S3, after `change` was made to them."""
        content_type, body = multipart(change([*issued["upload"]["fields"].items(), ("file", content)]))
        return self.s3.http.post(issued["upload"]["url"], headers={"Content-Type": content_type}, content=body)

    def complete(self, issued: dict[str, Any]) -> httpx.Response:
        """Say that the upload is done."""
        return self.http.post(issued["complete_url"], headers=self._headers)

    def playback(self, issued: dict[str, Any], **asked: Any) -> httpx.Response:
        """Ask for a link."""
        return self.http.get(f"{PREFIX}/{issued['media_id']}", params=asked, headers=self._headers)

    def delete(self, issued: dict[str, Any]) -> httpx.Response:
        """Ask to delete the media."""
        return self.http.delete(f"{PREFIX}/{issued['media_id']}", headers=self._headers)

    def objects(self, issued: dict[str, Any]) -> set[str]:
        """Return which objects of the media lie in the bucket: `staging`, `final`, both or none."""
        keys = _keys(UUID(issued["media_id"]))
        return {name for name, key in keys.items() if self.s3.head(key) is not None}

    def versions(self, issued: dict[str, Any]) -> list[str]:
        """Return the keys of all versions and delete markers of the media that lie in the bucket."""
        found: list[str] = []
        for key in _keys(UUID(issued["media_id"])).values():
            listing = self.s3.client.list_object_versions(Bucket=self.s3.bucket, Prefix=key)
            found += [entry["Key"] for kind in ("Versions", "DeleteMarkers") for entry in listing.get(kind, [])]
        return found

    def forget(self) -> None:
        """Remove all objects that this client's media may have left in the bucket."""
        for media_id in self.issued:
            for key in _keys(media_id).values():
                self.s3.client.delete_object(Bucket=self.s3.bucket, Key=key)


def eventually(holds: Callable[[], bool], within_seconds: float = 15) -> bool:
    """Wait until `holds()`; tell whether it came to that in time."""
    deadline = time.monotonic() + within_seconds
    while not (held := holds()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return held


def _keys(media_id: UUID) -> dict[str, str]:
    return {"staging": staging_key(media_id), "final": final_key(media_id, TYPE, 1)}
