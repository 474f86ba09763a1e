"""Posts of one form to S3, and what S3's answer means for the upload."""

from collections.abc import Mapping
from enum import Enum, auto
from http import HTTPStatus
from typing import Any
from xml.etree import ElementTree

import h11
import httpx

from broker.cli.uploading.failure import UploadFailed
from broker.client.wire import DIRECT


class Outcome(Enum):
    """The outcome of one post that did not fail for good."""

    STORED = auto()
    INTERRUPTED = auto()
    """No answer, or one that asks for a retry."""
    EXPIRED = auto()
    """The policy has expired; a fresh form may be accepted."""


def s3_client(connections: int) -> httpx.Client:
    """Return a client that posts forms. It sends no token, and S3 may take long to answer after the last byte."""
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    return httpx.Client(timeout=httpx.Timeout(60, read=300), mounts=dict.fromkeys(DIRECT), limits=limits)


def post_form(
    client: httpx.Client, url: str, fields: Mapping[str, str], file: Any, *, name: str, content_type: str
) -> Outcome:
    """Post a form with a file and return the outcome. Raises UploadFailed if no retry would help."""
    try:
        answer = client.post(url, data=fields, files={"file": (name, file, content_type)})
    except h11.LocalProtocolError:
        raise UploadFailed("The file changed while it was being sent.") from None
    except httpx.TransportError:
        return Outcome.INTERRUPTED
    if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR or answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        return Outcome.INTERRUPTED
    if answer.is_success:
        return Outcome.STORED
    code, message = _error(answer)
    if code == "AccessDenied" and "expired" in message.lower():
        return Outcome.EXPIRED
    if code == "RequestTimeout":  # S3 waited too long for the next byte
        return Outcome.INTERRUPTED
    raise UploadFailed(f"S3 refused the upload: {code}: {message}" if message else f"S3 refused the upload: {code}")


def _error(answer: httpx.Response) -> tuple[str, str]:
    """Return S3's error code and message, or the status and no message if the response is not XML."""
    try:
        error = ElementTree.fromstring(answer.content)  # noqa: S314 - expat itself bounds entities
    except ElementTree.ParseError:
        return f"{answer.status_code} {answer.reason_phrase}", ""
    return error.findtext("Code") or str(answer.status_code), error.findtext("Message") or ""
