"""What `broker upload` does: ask for a policy, send the file to S3, say that it is done.

The file is streamed from disk, so memory does not grow with its size. Every request can be repeated harmlessly: the
broker's by an Idempotency-Key, a form because it names one key.
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

from broker.domain.rules import EXTENSIONS

TRIES = 4
"""How often a file is sent, and how often a request that nobody answered is repeated."""
REST_SECONDS = 1.0
"""The rest before a repetition, where the answer names none."""
PATIENCE_SECONDS = 120.0
"""How long the broker's word that it is not done yet is believed."""
ASK_AGAIN = frozenset(
    {
        HTTPStatus.CONFLICT,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
# A proxy that is set for the world has no business with this machine.
_DIRECT: dict[str, httpx.BaseTransport | None] = {"all://127.0.0.1": None, "all://localhost": None}


_TYPES = {f".{extension}": kind for kind, extension in EXTENSIONS.items()}


class UploadFailed(Exception):
    """The upload came to nothing; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A media that is ready, and a link to it that ends at `expires_at` (RFC 3339)."""

    media_id: str
    signed_url: str
    expires_at: str


class UploadClient:
    """Upload files to the bucket of one broker.

    `url` is where its routes are, prefix included. Raises ValueError for a token that no header can carry.
    """

    def __init__(self, url: str, token: str, *, rest: Callable[[float], None] = time.sleep) -> None:
        self._url = url.rstrip("/")
        self._rest = rest
        bearer = {"Authorization": f"Bearer {bare_token(token)}"}
        self._broker = httpx.Client(headers=bearer, timeout=30, mounts=_DIRECT)
        # S3 may take its time with the answer, once it has the last byte. It gets no token.
        self._s3 = httpx.Client(timeout=httpx.Timeout(60, read=300), mounts=_DIRECT)

    def upload(self, file: BinaryIO, *, name: str, size: int, content_type: str) -> Uploaded:
        """Upload the `size` bytes of `file` and return the ready media. Raises UploadFailed."""
        asked = {"content_type": content_type, "size": size, "filename": name}
        key = {"Idempotency-Key": str(uuid.uuid4())}
        for _ in range(TRIES):
            # Asked for in every round: the key renews the policy that a slow try has used up.
            issued = self._ask("/upload", json=asked, headers=key)
            if issued["upload"] is None or self._send(issued["upload"], file, name, content_type):
                break
            self._rest(REST_SECONDS)
        else:
            raise UploadFailed("S3 could not be reached, or broke off each time; try again later.")
        ready = self._ask(f"/{issued['media_id']}/complete")
        return Uploaded(ready["media_id"], ready["signed_url"], ready["expires_at"])

    def close(self) -> None:
        """Let go of the connections."""
        self._broker.close()
        self._s3.close()

    def __enter__(self) -> "UploadClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, form: dict[str, Any], file: BinaryIO, name: str, content_type: str) -> bool:
        """Post the form; return whether S3 has the file, False where a repetition may help."""
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

    def _ask(self, path: str, **request: Any) -> dict[str, Any]:
        """Post to the broker and return its answer; where it says so, ask again."""
        silent, patience = 0, PATIENCE_SECONDS
        while True:
            try:
                answer = self._broker.post(self._url + path, **request)
            except (httpx.TransportError, httpx.InvalidURL) as error:
                silent += 1
                if silent == TRIES or isinstance(
                    error, httpx.ConnectError | httpx.InvalidURL | httpx.UnsupportedProtocol
                ):
                    raise UploadFailed(f"No broker answers at {self._url}: {_reason(error)}") from None
                self._rest(REST_SECONDS)
                continue
            seconds = _retry_after(answer)
            if answer.status_code not in ASK_AGAIN or patience < seconds:
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
        # A path that is no route of a broker's answers a problem without a type of its own.
        if "detail" not in document or document.get("type", "about:blank") == "about:blank":
            raise UploadFailed(
                f"{self._url} answers {answer.status_code}, but not as a broker does; "
                "its address has a path, such as http://127.0.0.1:8000/api/v1/s3-media"
            )
        raise UploadFailed(f"{document.get('title', answer.status_code)}: {document['detail']}")


def bare_token(token: str) -> str:
    """Return `token` without the whitespace around it.

    Raises ValueError, which does not quote it, where it is not printable ASCII without spaces (RFC 6750, section 2.1).
    """
    bare = token.strip()
    if not bare or not bare.isascii() or not bare.isprintable() or " " in bare:
        raise ValueError("should be printable ASCII without spaces")
    return bare


def type_of(name: str) -> str | None:
    """Return the content type that a file's name tells, or None."""
    suffix = PurePath(name).suffix.lower()
    return _TYPES.get(suffix) or mimetypes.types_map.get(suffix)


def _reason(error: httpx.TransportError | httpx.InvalidURL) -> str:
    """Return what httpx says, or only its class: an error of the protocol may quote the header that holds the token."""
    return type(error).__name__ if isinstance(error, httpx.ProtocolError) else str(error) or type(error).__name__


def _retry_after(answer: httpx.Response) -> float:
    """Return for how many seconds the answer asks us to rest (RFC 9110, section 10.2.3; no date is expected)."""
    asked = answer.headers.get("Retry-After", "")
    return max(float(asked), REST_SECONDS / 10) if asked.isdecimal() else REST_SECONDS


def _s3_reason(answer: httpx.Response) -> str:
    """Return S3's code and message, or the status where its answer is no XML."""
    try:
        error = ElementTree.fromstring(answer.content)  # noqa: S314 - expat itself bounds entities
    except ElementTree.ParseError:
        return f"{answer.status_code} {answer.reason_phrase}"
    return f"{error.findtext('Code')}: {error.findtext('Message')}"
