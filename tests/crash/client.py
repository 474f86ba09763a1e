"""A client of a broker that may die at any moment, and what it was told until then."""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from broker.dev.tokens import mint_token
from broker.domain.media import Media, State
from tests.crash.invariants import Found
from tests.support.dying import VIDEO

SECRET = "a-secret-of-the-crash-tests-and-no-other"
SCOPE = "media:upload media:read media:delete"
MP4 = {"content_type": "video/mp4", "size": len(VIDEO)}


def bearer(owner: str) -> dict[str, str]:
    """Return the header that makes a request `owner`'s."""
    token = mint_token(SECRET, owner=owner, scope=SCOPE, ttl_seconds=3600, now=datetime.now(UTC))
    return {"Authorization": f"Bearer {token}"}


@dataclass(slots=True)
class Client:
    """Ask a broker, and remember what it promised. Every request says what time it is for the broker."""

    http: httpx.Client
    url: str
    owner: str = "anna"
    clock: float = 0
    """How far ahead of the machine's time the broker is, in seconds."""
    told: dict[str, str] = field(default_factory=dict)
    """The last that was said of each media: issued, ready, rejected or deleted."""

    def issue(self, *, key: str | None = None, **steering: str) -> dict[str, Any]:
        """Ask for an upload; return the answer."""
        headers = steering if key is None else steering | {"Idempotency-Key": key}
        answer = self.ask("POST", "/upload", json=MP4, **headers)
        assert answer.status_code == 201, answer.text
        self.told.setdefault(answer.json()["media_id"], "issued")
        return {"steps": answer.headers["x-steps"], **answer.json()}

    def upload(self, issued: dict[str, Any], body: bytes = VIDEO) -> None:
        """Post the form to S3."""
        form = issued["upload"]
        answer = self.http.post(form["url"], data=form["fields"], files={"file": ("a.mp4", body)})
        assert answer.status_code == 201, answer.text

    def complete(self, media_id: str, **steering: str) -> httpx.Response:
        """Say that it is uploaded."""
        answer = self.ask("POST", f"/{media_id}/complete", **steering)
        if said := {200: "ready", 422: "rejected"}.get(answer.status_code):
            self.told[media_id] = said
        return answer

    def delete(self, media_id: str, **steering: str) -> httpx.Response:
        """Delete a media; from when it is asked on, nothing that was said of it is owed any more."""
        self.told.pop(media_id, None)
        answer = self.ask("DELETE", f"/{media_id}", **steering)
        if answer.status_code in (200, 404):
            self.told[media_id] = "deleted"
        return answer

    def ask(self, method: str, path: str, *, json: object = None, **headers: str) -> httpx.Response:
        """Send one request."""
        said = bearer(self.owner) | {"x-clock": str(self.clock)} | headers
        return self.http.request(method, self.url + path, json=json, headers=said)

    def untrue(self, found: Found) -> list[str]:
        """Say which of the things that the broker told are true no more, once everything has settled."""
        wrong = []
        for media_id, said in self.told.items():
            media = found.of(media_id)
            state = None if media is None else media.state
            if state not in _ALLOWED[said]:
                wrong.append(f"{media_id} was told to be {said}, and is {state}")
            elif (answer := self.ask("GET", f"/{media_id}")).status_code != _SHOWN.get(state, 409):
                wrong.append(f"{media_id} is {state}, and is answered with {answer.status_code}")
            elif media is not None and state is State.READY and not self._plays(answer.json()["signed_url"], media):
                wrong.append(f"{media_id} does not play")
        return wrong

    def _plays(self, signed_url: str, media: Media) -> bool:
        played = self.http.get(signed_url)
        digest = hashlib.md5(played.content, usedforsecurity=False).hexdigest()
        return (played.status_code, digest) == (200, media.etag)


_ALLOWED = {
    "issued": {State.READY, State.REJECTED, State.EXPIRED},
    "ready": {State.READY},
    "rejected": {State.REJECTED},
    "deleted": {State.DELETED},
}
_SHOWN = {State.READY: 200, State.DELETED: 404}
