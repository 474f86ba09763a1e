"""A client of a broker that may die at any moment, and the answers that it got."""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from broker.dev.tokens import mint_token
from broker.domain.media import Media, State
from broker.domain.parts import composed_etag
from tests.crash.invariants import Found
from tests.support.dying import IN_PARTS, VIDEO

SECRET = "a-secret-of-the-crash-tests-and-no-other"
SCOPE = "media:upload media:read media:delete"
MP4 = {"content_type": "video/mp4", "size": len(VIDEO)}


def bearer(owner: str) -> dict[str, str]:
    """Return the header that makes a request `owner`'s."""
    token = mint_token(SECRET, owner=owner, scope=SCOPE, ttl_seconds=3600, now=datetime.now(UTC))
    return {"Authorization": f"Bearer {token}"}


@dataclass(slots=True)
class Client:
    """Send requests to a broker and remember its promises. Every request sets the broker's clock."""

    http: httpx.Client
    url: str
    owner: str = "anna"
    clock: float = 0
    """The offset of the broker's clock, in seconds."""
    outcomes: dict[str, str] = field(default_factory=dict)
    """The last known outcome of each media: issued, ready, rejected or deleted."""

    def issue(self, *, key: str | None = None, **steering: str) -> dict[str, Any]:
        """Issue an upload; return the answer."""
        headers = steering if key is None else steering | {"Idempotency-Key": key}
        answer = self.ask("POST", "/upload", json=MP4, **headers)
        assert answer.status_code == 201, answer.text
        self.outcomes.setdefault(answer.json()["media_id"], "issued")
        return {"steps": answer.headers["x-steps"], **answer.json()}

    def upload(self, issued: dict[str, Any], body: bytes = VIDEO) -> None:
        """Post the form to S3."""
        form = issued["upload"]
        answer = self.http.post(form["url"], data=form["fields"], files={"file": ("a.mp4", body)})
        assert answer.status_code == 201, answer.text

    def issue_in_parts(self, *, key: str | None = None, **steering: Any) -> dict[str, Any]:
        """Issue a resumable upload; return the answer."""
        steered = {name: value for name, value in steering.items() if name.startswith("x-")}
        headers = steered if key is None else steered | {"Idempotency-Key": key}
        body = {"content_type": "video/mp4", "size": len(IN_PARTS), "resumable": True}
        body |= {name: value for name, value in steering.items() if name not in steered}
        answer = self.ask("POST", "/upload", json=body, **headers)
        assert answer.status_code == 201, answer.text
        self.outcomes.setdefault(answer.json()["media_id"], "issued")
        return {"steps": answer.headers["x-steps"], **answer.json()}

    def upload_parts(self, issued: dict[str, Any], content: bytes = IN_PARTS) -> None:
        """Post every part to S3."""
        parts = issued["parts"]
        for form in parts["forms"]:
            first = (form["number"] - 1) * parts["part_size"]
            body = content[first : first + form["size"]]
            answer = self.http.post(parts["url"], data=parts["fields"] | form["fields"], files={"file": body})
            assert answer.status_code == 201, answer.text

    def parts(self, media_id: str, **steering: str) -> httpx.Response:
        """Ask which parts have arrived."""
        return self.ask("GET", f"/{media_id}/parts", **steering)

    def complete(self, media_id: str, **steering: str) -> httpx.Response:
        """Complete an upload."""
        answer = self.ask("POST", f"/{media_id}/complete", **steering)
        if outcome := {200: "ready", 422: "rejected"}.get(answer.status_code):
            self.outcomes[media_id] = outcome
        return answer

    def delete(self, media_id: str, **steering: str) -> httpx.Response:
        """Delete a media; from this request on, earlier promises about it no longer hold."""
        self.outcomes.pop(media_id, None)
        answer = self.ask("DELETE", f"/{media_id}", **steering)
        if answer.status_code in (200, 404):
            self.outcomes[media_id] = "deleted"
        return answer

    def ask(self, method: str, path: str, *, json: object = None, **headers: str) -> httpx.Response:
        """Send one request."""
        headers = bearer(self.owner) | {"x-clock": str(self.clock)} | headers
        return self.http.request(method, self.url + path, json=json, headers=headers)

    def untrue(self, found: Found) -> list[str]:
        """Return the promises of the broker that no longer hold once everything has settled."""
        wrong = []
        for media_id, outcome in self.outcomes.items():
            media = found.of(media_id)
            state = None if media is None else media.state
            if state not in _ALLOWED[outcome]:
                wrong.append(f"{media_id} was reported as {outcome}, and is {state}")
            elif (answer := self.ask("GET", f"/{media_id}")).status_code != _SHOWN.get(state, 409):
                wrong.append(f"{media_id} is {state}, and is answered with {answer.status_code}")
            elif media is not None and state is State.READY and not self._plays(answer.json()["signed_url"], media):
                wrong.append(f"{media_id} does not play")
        return wrong

    def _plays(self, signed_url: str, media: Media) -> bool:
        played = self.http.get(signed_url)
        if media.part_size is None:
            digest = _md5(played.content)
        else:
            firsts = range(0, len(played.content), media.part_size)
            digest = composed_etag([_md5(played.content[first : first + media.part_size]) for first in firsts])
        return (played.status_code, digest) == (200, media.etag)


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


_ALLOWED = {
    "issued": {State.READY, State.REJECTED, State.EXPIRED},
    "ready": {State.READY},
    "rejected": {State.REJECTED},
    "deleted": {State.DELETED},
}
_SHOWN = {State.READY: 200, State.DELETED: 404}
