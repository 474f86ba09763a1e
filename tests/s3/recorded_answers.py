"""The table of what AWS answers, as others recorded it, and an interpreter of its rows.

`recorded/*.yaml` holds the rows. A row has a `name`, the `source` that recorded the answer, the requests that are
`given` first, and one `request` or `form` with its `answer`. A request is `send: METHOD /key?query` within a fresh
bucket, with `headers` and a `body`; `sign` is `header` (the default), `query` or `none`, and `bucket` names another
bucket. `save` keeps headers of the answer, by the names under which later requests write them in braces.
An answer names its status and, where they were recorded, the code, the message and further elements of the error,
headers (null: absent), and texts of the XML document by path. `versioning` is the bucket's state.
"""

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import yaml
from defusedxml.ElementTree import fromstring

from tests.s3.forms import Form
from tests.s3.requests import Requests

FOLDER = Path(__file__).parent / "recorded"
VERSIONING = "<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>"


@dataclass(frozen=True)
class Row:
    """One recorded answer."""

    subject: str
    name: str
    source: str
    answer: dict[str, Any]
    request: dict[str, Any] | None = None
    form: dict[str, Any] | None = None
    given: list[dict[str, Any]] = field(default_factory=list)
    versioning: str | None = None


def rows() -> Iterator[Row]:
    """Yield the rows of all tables."""
    for path in sorted(FOLDER.glob("*.yaml")):
        for row in yaml.safe_load(path.read_text()):
            yield Row(path.stem, **row)


@dataclass
class Player:
    """Send a row's requests, and remember what they save."""

    requests: Requests
    form: Form
    saved: dict[str, str]

    def play(self, row: Row) -> httpx.Response:
        """Return the response to a row's request or form."""
        if row.versioning is not None:
            self._send({"send": "PUT ?versioning", "body": VERSIONING.format(status=row.versioning)})
        for request in row.given:
            response = self._send(request)
            assert response.status_code < 300, (request, response.text)
            self.saved |= {name: response.headers[header] for name, header in request.get("save", {}).items()}
        if row.form is not None:
            return self._post(row.form)
        assert row.request is not None
        return self._send(row.request)

    def _post(self, form: dict[str, Any]) -> httpx.Response:
        changes = dict(form)
        self.form.fields |= changes.pop("fields", {})
        self.form.conditions += changes.pop("conditions", [])
        if "policy" in changes:
            policy = changes.pop("policy")
            self.form.encode = lambda _: policy
        for name, value in changes.items():
            setattr(self.form, name, set(value) if name == "without" else value.encode() if name == "file" else value)
        return self.form.send()

    def _send(self, request: dict[str, Any]) -> httpx.Response:
        method, _, target = self._filled(request["send"]).partition(" ")
        path, mark, query = target.partition("?")
        bucket = request.get("bucket", self.requests.bucket)
        url = f"{self.requests.s3.endpoint_url}/{bucket}{quote(path)}{mark}{query}"
        body = self._filled(request.get("body", "")).encode()
        headers = {name: self._filled(value) for name, value in request.get("headers", {}).items()}
        if query == "delete":
            digest = hashlib.md5(body, usedforsecurity=False).digest()
            headers["Content-MD5"] = base64.b64encode(digest).decode()
        match request.get("sign", "header"):
            case "header":
                headers = self.requests.signed_headers(method, url, headers, body)
            case "query":
                key = path.removeprefix("/")
                url = self.requests.presign(key, method=method, query=mark + query)
        return httpx.request(method, url, headers=headers, content=body)

    def _filled(self, text: str) -> str:
        for name, value in (self.saved | {"bucket": self.requests.bucket}).items():
            text = text.replace(f"{{{name}}}", value)
        return text

    def check(self, row: Row, response: httpx.Response) -> None:
        """Compare a response with the recorded answer."""
        answer = dict(row.answer)
        assert response.status_code == answer.pop("status"), response.text
        for name, value in answer.pop("headers", {}).items():
            assert response.headers.get(name) == (None if value is None else self._filled(value)), name
        elements = {
            "Code": answer.pop("code", None),
            "Message": answer.pop("message", None),
            **answer.pop("elements", {}),
        }
        texts = answer.pop("xml", {})
        assert not answer, f"unknown members: {answer.keys()}"
        for name, value in elements.items():
            if value is not None:
                assert fromstring(response.content).findtext(name) == self._filled(value), response.text
        for path, values in texts.items():
            assert [self._filled(value) for value in values] == _texts(response.content, path), (path, response.text)


def _texts(document: bytes, path: str) -> list[str]:
    """Return the texts of the elements at a path, in any namespace."""
    steps = "/".join(f"{{*}}{step}" for step in path.split("/"))
    return [element.text or "" for element in fromstring(document).findall(steps)]
