"""`broker upload`: request a policy, send the file to S3, and complete the upload.

The file is streamed from disk, so memory does not grow with its size. Every request can be repeated safely: requests to
the broker carry an Idempotency-Key, and a form names exactly one object key.
"""

import mimetypes
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import PurePath
from types import TracebackType
from typing import Any, BinaryIO
from xml.etree import ElementTree

import h11
import httpx

from broker.domain.video_types import type_of_file

TRIES = 4
"""How often a file, or an unanswered request, is sent in all."""
REST_SECONDS = 1.0
"""The pause before a retry, if the response names none."""
PATIENCE_SECONDS = 120.0
"""How long a request is retried if the broker keeps asking for it."""
RETRIED = frozenset(
    {
        HTTPStatus.CONFLICT,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
# A proxy of the environment is not meant for this machine.
_DIRECT: dict[str, httpx.BaseTransport | None] = {"all://127.0.0.1": None, "all://localhost": None}


class UploadFailed(Exception):
    """The upload failed; the message has the reason and the next step."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A ready media, and a link to it that expires at `expires_at` (RFC 3339)."""

    media_id: str
    signed_url: str
    expires_at: str


class UploadClient:
    """A client of one broker that uploads files.

    `url` is that of its routes, prefix included. Raises ValueError for a token that no header can carry.
    """

    def __init__(self, url: str, token: str, *, rest: Callable[[float], None] = time.sleep) -> None:
        self._url = url.rstrip("/")
        self._rest = rest
        bearer = {"Authorization": f"Bearer {bare_token(token)}"}
        self._broker = httpx.Client(headers=bearer, timeout=30, mounts=_DIRECT)
        # S3 may take long to answer after the last byte. This client sends no token.
        self._s3 = httpx.Client(timeout=httpx.Timeout(60, read=300), mounts=_DIRECT)

    def upload(self, file: BinaryIO, *, name: str, size: int, content_type: str) -> Uploaded:
        """Upload the `size` bytes of `file` and return the ready media. Raises UploadFailed."""
        body = {"content_type": content_type, "size": size, "filename": name}
        key = {"Idempotency-Key": str(uuid.uuid4())}
        for _ in range(TRIES):
            # Requested in every round, because the key renews a policy that expired during a slow try.
            issued = self._request("/upload", json=body, headers=key)
            if issued["upload"] is None or self._send(issued["upload"], file, name, content_type):
                break
            self._rest(REST_SECONDS)
        else:
            raise UploadFailed("S3 is unavailable, or closed the connection each time; retry later.")
        ready = self._request(f"/{issued['media_id']}/complete")
        return Uploaded(ready["media_id"], ready["signed_url"], ready["expires_at"])

    def close(self) -> None:
        """Close the connections."""
        self._broker.close()
        self._s3.close()

    def __enter__(self) -> "UploadClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, form: dict[str, Any], file: BinaryIO, name: str, content_type: str) -> bool:
        """Post the form. Return True if S3 stored the file, or False if a retry may help. Raises UploadFailed."""
        try:
            answer = self._s3.post(form["url"], data=form["fields"], files={"file": (name, file, content_type)})
        except h11.LocalProtocolError:
            raise UploadFailed("The file changed while it was being sent.") from None
        except httpx.TransportError:
            return False
        if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return False
        if not answer.is_success:
            raise UploadFailed(f"S3 refused the upload: {_s3_reason(answer)}")
        return True

    def _request(self, path: str, **request: Any) -> dict[str, Any]:
        """Post to the broker and return its response; retry if the response asks for it. Raises UploadFailed."""
        unanswered, patience = 0, PATIENCE_SECONDS
        while True:
            try:
                answer = self._broker.post(self._url + path, **request)
            except (httpx.TransportError, httpx.InvalidURL) as error:
                unanswered += 1
                if unanswered == TRIES or isinstance(
                    error, httpx.ConnectError | httpx.InvalidURL | httpx.UnsupportedProtocol
                ):
                    raise UploadFailed(f"No broker answers at {self._url}: {_reason(error)}") from None
                self._rest(REST_SECONDS)
                continue
            seconds = _retry_after(answer)
            if answer.status_code not in RETRIED or patience < seconds:
                return self._accepted(answer)
            patience -= seconds
            self._rest(seconds)

    def _accepted(self, answer: httpx.Response) -> dict[str, Any]:
        try:
            document: dict[str, Any] = answer.json()
        except ValueError:
            document = {}
        if answer.is_success and "media_id" in document:
            return document
        # A path without a route answers with a problem of no specific type.
        if "detail" not in document or document.get("type", "about:blank") == "about:blank":
            raise UploadFailed(
                f"{self._url} answers with {answer.status_code}, but it is not a broker; "
                "the URL needs the path of its routes, such as http://127.0.0.1:8000/api/v1/s3-media"
            )
        raise UploadFailed(f"{document.get('title', answer.status_code)}: {document['detail']}")


def bare_token(token: str) -> str:
    """Return `token` without surrounding whitespace.

    Raises ValueError, which does not quote it, unless it is printable ASCII without spaces (RFC 6750, section 2.1).
    """
    bare = token.strip()
    if not bare or not bare.isascii() or not bare.isprintable() or " " in bare:
        raise ValueError("should be printable ASCII without spaces")
    return bare


def type_of(name: str) -> str | None:
    """Return the content type for a file name's extension, or None if it is unknown."""
    return type_of_file(name) or mimetypes.types_map.get(PurePath(name).suffix.lower())


def _reason(error: httpx.TransportError | httpx.InvalidURL) -> str:
    """Return the error's text, or only its class if the text may quote the header with the token."""
    return type(error).__name__ if isinstance(error, httpx.ProtocolError) else str(error) or type(error).__name__


def _retry_after(answer: httpx.Response) -> float:
    """Return the seconds before a retry, by Retry-After (RFC 9110, section 10.2.3; only as seconds, not a date)."""
    seconds = answer.headers.get("Retry-After", "")
    return max(float(seconds), REST_SECONDS / 10) if seconds.isdecimal() else REST_SECONDS


def _s3_reason(answer: httpx.Response) -> str:
    """Return S3's error code and message, or the status if the response is not XML."""
    try:
        error = ElementTree.fromstring(answer.content)  # noqa: S314 - expat itself bounds entities
    except ElementTree.ParseError:
        return f"{answer.status_code} {answer.reason_phrase}"
    return f"{error.findtext('Code')}: {error.findtext('Message')}"
