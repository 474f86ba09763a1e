"""The client of `broker upload`: request policies, send files to S3, and complete the uploads.

A file is streamed from disk, so memory does not grow with its size. Every request can be repeated safely: requests to
the broker carry an Idempotency-Key, and a form names exactly one object key.
"""

import mimetypes
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any, BinaryIO

from broker.cli.uploading.broker_client import PARTS_MISSING, TRIES, BrokerClient
from broker.cli.uploading.failure import UploadFailed
from broker.cli.uploading.parts import PartsUpload
from broker.cli.uploading.s3_form import Outcome, post_form, s3_client
from broker.cli.uploading.unfinished import Unfinished
from broker.client.wire import REST_SECONDS
from broker.domain.video_types import type_of_file

CONNECTIONS = 4
"""How many parts of a file are sent at a time."""
RENEWED = frozenset({"upload-expired", "media-not-found", "idempotency-key-reused"})
"""The problems with which the broker answers a remembered upload that cannot go on; a new one can begin."""
ENDED = RENEWED | {"upload-rejected"}
ROUNDS = 3
"""How often missing parts are sent: one may be lost after it was acknowledged, to a clean-up of the bucket."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A ready media, and a link to it that expires at `expires_at` (RFC 3339)."""

    media_id: str
    signed_url: str
    expires_at: str


class UploadClient:
    """A client of one broker that uploads files, one at a time.

    `url` is that of its routes, prefix included. Raises ValueError for a token that no header can carry.
    """

    def __init__(self, url: str, token: str, *, rest: Callable[[float], object] = time.sleep) -> None:
        self._rest = rest
        self._broker = BrokerClient(url, token, rest=rest)
        self._s3 = s3_client(1)

    def upload(self, file: BinaryIO, *, name: str, size: int, content_type: str) -> Uploaded:
        """Upload the `size` bytes of `file` by one form and return the ready media. Raises UploadFailed."""
        body = {"content_type": content_type, "size": size, "filename": name}
        key = {"Idempotency-Key": str(uuid.uuid4())}
        for attempt in range(TRIES):
            # Requested in every round, because the key renews a policy that expired during a slow try.
            issued = self._broker.request("POST", "/upload", json=body, headers=key)
            if issued["upload"] is None:
                break
            form = issued["upload"]
            outcome = post_form(self._s3, form["url"], form["fields"], file, name=name, content_type=content_type)
            if outcome is Outcome.STORED:
                break
            if outcome is Outcome.EXPIRED and attempt:
                raise UploadFailed("S3 refused the upload: AccessDenied: the policy has expired, also a fresh one.")
            self._rest(REST_SECONDS)
        else:
            raise UploadFailed("S3 is unavailable, or closed the connection each time; retry later.")
        return self._complete(issued["media_id"])

    def upload_in_parts(
        self,
        path: Path,
        *,
        name: str,
        content_type: str,
        unfinished: Unfinished,
        connections: int = CONNECTIONS,
        on_progress: Callable[[int], object] = lambda _: None,
    ) -> Uploaded:
        """Upload a file in parts, or the missing ones of an earlier run, and return the ready media.

        `on_progress` gets numbers of bytes: sent, found stored, or (negative) sent in vain. Raises UploadFailed; the
        next call with the same `unfinished` goes on, unless the broker said that the upload has ended.
        """
        descriptor = os.open(path, os.O_RDONLY)
        try:
            before = os.fstat(descriptor)
            body = {"content_type": content_type, "size": before.st_size, "filename": name, "resumable": True}
            try:
                for _ in range(ROUNDS):
                    issued = self._issue(body, unfinished)
                    counted = 0
                    if issued["parts"] is not None:
                        parts = PartsUpload(
                            self._broker,
                            media_id=issued["media_id"],
                            descriptor=descriptor,
                            size=before.st_size,
                            content_type=content_type,
                            page=issued["parts"],
                            expires_in=issued["expires_in"],
                            connections=connections,
                            on_progress=on_progress,
                            rest=self._rest,
                        )
                        parts.run()
                        counted = parts.stored_bytes
                    after = os.fstat(descriptor)
                    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                        raise UploadFailed("The file changed while it was being sent.", "upload-rejected")
                    try:
                        uploaded = self._complete(issued["media_id"])
                    except UploadFailed as failure:
                        if failure.problem != PARTS_MISSING:
                            raise
                        on_progress(-counted)
                        continue
                    unfinished.forget()
                    return uploaded
            except UploadFailed as failure:
                if failure.problem in ENDED:
                    unfinished.forget()
                raise
        finally:
            os.close(descriptor)
        raise UploadFailed("Parts that S3 had acknowledged are missing; run the command again to go on.")

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

    def _issue(self, body: dict[str, Any], unfinished: Unfinished) -> dict[str, Any]:
        """Request the upload, or the missing parts of a remembered one; a new one if that cannot go on."""
        was_known = unfinished.is_known
        try:
            return self._broker.request("POST", "/upload", json=body, headers={"Idempotency-Key": unfinished.key()})
        except UploadFailed as failure:
            if not was_known or failure.problem not in RENEWED:
                raise
        unfinished.forget()
        return self._broker.request("POST", "/upload", json=body, headers={"Idempotency-Key": unfinished.key()})

    def _complete(self, media_id: str) -> Uploaded:
        ready = self._broker.request("POST", f"/{media_id}/complete")
        return Uploaded(ready["media_id"], ready["signed_url"], ready["expires_at"])


def type_of(name: str) -> str | None:
    """Return the content type for a file name's extension, or None if it is unknown."""
    return type_of_file(name) or mimetypes.types_map.get(PurePath(name).suffix.lower())
