"""Bucket configuration, SQS, SNS, STS and IAM, served by moto in this process.

The requests that configure a bucket are also recorded, and replayed to moto when a data directory is opened.
"""

import asyncio
import base64
import json
import logging
import os
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from broker.dev.s3.disk import Disk
from broker.dev.s3.errors import S3Error

os.environ.setdefault("MOTO_DISABLE_GLOBAL_CORS", "true")

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import FakeBucket, s3_backends
from moto.sqs.models import sqs_backends
from werkzeug.test import Client

log = logging.getLogger(__name__)
_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_IP_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")
_FRAMING = frozenset({"host", "content-length", "transfer-encoding", "connection", "expect"})
_CORS = "cors"
_POLL_SECONDS = 0.05
_UNSAID = _FRAMING | {"authorization", "x-amz-date", "x-amz-security-token"}


@dataclass(frozen=True, slots=True)
class Answer:
    """A response of moto."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Notification:
    """A queue, and the events and keys that it is notified of."""

    id: str
    queue_arn: str
    matches: Callable[[str, str], bool]


class Services:
    """The services of moto, and the configuration of buckets that it keeps."""

    def __init__(self, disk: Disk, region: str) -> None:
        self.region = region
        self._disk, self._file = disk, disk.root / "buckets.json"
        self._client = Client(DomainDispatcherApplication(create_backend_app))
        self._threads = ThreadPoolExecutor(max_workers=32, thread_name_prefix="moto")
        self._receiving = asyncio.Lock()
        self._configured: dict[str, dict[str, Any]] = {}
        if (written := disk.read_json(self._file)) is not None:
            self._replay(written)

    async def ask(
        self, method: str, origin: str, path: str, query: str, headers: dict[str, str], body: bytes
    ) -> Answer:
        """Pass a request to moto, outside the event loop, because SQS may wait for messages."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: self._ask(method, origin, path, query, headers, body))

    async def receive(self, origin: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        """Pass a ReceiveMessage to moto in short polls, one at a time: two would get the same messages."""
        request = json.loads(body)
        ends = time.monotonic() + (request.get("WaitTimeSeconds") or 0)
        poll = json.dumps(request | {"WaitTimeSeconds": 0}).encode()
        while True:
            async with self._receiving:
                answer = await self.ask("POST", origin, path, "", headers, poll)
            if answer.status != 200 or json.loads(answer.body).get("Messages") or time.monotonic() >= ends:
                return answer
            await asyncio.sleep(_POLL_SECONDS)

    async def configure(
        self,
        method: str,
        bucket: str,
        subresource: str | None,
        query: list[tuple[str, str]],
        headers: dict[str, str],
        body: bytes,
    ) -> Answer:
        """Pass a request about a bucket to moto, and record the requests that change it."""
        if subresource == _CORS:
            return self._configure_cors(method, bucket, body)
        kept_query = "&".join(
            f"{name}={value}" if value else name
            for name, value in query
            if not name.startswith("X-Amz-") and name != "x-id"
        )
        answer = await self.ask(method, self._origin, f"/{bucket}", kept_query, headers, body)
        if method in ("PUT", "DELETE") and answer.status < 300:
            self._write_down(method, bucket, kept_query, headers, body)
        return answer

    def check_name(self, bucket: str) -> None:
        """Refuse a name that no bucket can have (Amazon S3 User Guide, "General purpose bucket naming rules")."""
        if not _BUCKET_NAME.fullmatch(bucket) or ".." in bucket or _IP_ADDRESS.fullmatch(bucket):
            raise S3Error("InvalidBucketName", BucketName=bucket)

    def create_bucket(self, name: str, cors_origins: list[str]) -> None:
        """Create a bucket unless it exists, and allow pages of the given origins to use it."""
        if not self.exists(name):
            constraint = "" if self.region == "us-east-1" else f"<LocationConstraint>{self.region}</LocationConstraint>"
            body = f"<CreateBucketConfiguration>{constraint}</CreateBucketConfiguration>" if constraint else ""
            self.check_name(name)
            self._tell("PUT", name, "", {}, body.encode())
        if cors_origins:
            origins = "".join(f"<AllowedOrigin>{origin}</AllowedOrigin>" for origin in cors_origins)
            methods = "".join(f"<AllowedMethod>{method}</AllowedMethod>" for method in ("POST", "GET", "HEAD"))
            exposed = "".join(f"<ExposeHeader>{header}</ExposeHeader>" for header in ("ETag", "Location"))
            rule = f"{origins}{methods}{exposed}<AllowedHeader>*</AllowedHeader>"
            body = f"<CORSConfiguration><CORSRule>{rule}</CORSRule></CORSConfiguration>"
            self._write_down("PUT", name, _CORS, {}, body.encode())

    def exists(self, bucket: str) -> bool:
        """Return whether a bucket exists."""
        return bucket in s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets

    def bucket(self, name: str) -> FakeBucket:
        """Return a bucket's configuration, or refuse with `NoSuchBucket`."""
        if not self.exists(name):
            raise S3Error("NoSuchBucket", BucketName=name)
        return s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets[name]

    def cors(self, bucket: str) -> bytes | None:
        """Return the CORS document of a bucket, or None if it has none."""
        entry = self._configured.get(f"{bucket}?{_CORS}")
        return None if entry is None else base64.b64decode(entry["body"])

    def versioning(self, bucket: str) -> str | None:
        """Return `Enabled`, `Suspended`, or None if versioning was never enabled."""
        return self.bucket(bucket).versioning_status

    def allows_acls(self, bucket: str) -> bool:
        """Return whether a bucket allows ACLs; a new bucket does not."""
        rule = self.bucket(bucket).ownership_rule
        return rule is not None and str(rule) != "BucketOwnerEnforced"

    def notifications(self, bucket: str) -> list[Notification]:
        """Return the queues that a bucket notifies."""
        configuration = self.bucket(bucket).notification_configuration
        queues = [] if configuration is None else configuration.queue
        return [Notification(queue.id, queue.arn, queue.matches) for queue in queues]

    def has_queue(self, queue_arn: str) -> bool:
        """Return whether a queue exists."""
        *_, region, account, name = queue_arn.split(":")
        return name in sqs_backends[account][region].queues

    def send(self, queue_arn: str, message: str) -> None:
        """Put a message into a queue. A failure is logged; the client does not learn of it, as on AWS."""
        *_, region, account, name = queue_arn.split(":")
        try:
            sqs_backends[account][region].send_message(queue_name=name, message_body=message)
        except Exception as error:
            log.warning("the event for %s is lost: %s", queue_arn, error)

    @property
    def _origin(self) -> str:
        return f"http://s3.{self.region}.amazonaws.com"

    def _configure_cors(self, method: str, bucket: str, body: bytes) -> Answer:
        """Keep a bucket's CORS document here, because moto fails on an empty origin, which S3 accepts."""
        xml = {"content-type": "application/xml"}
        if method == "GET":
            document = self.cors(bucket)
            if document is None:
                raise S3Error("NoSuchCORSConfiguration", BucketName=bucket)
            return Answer(200, xml, document)
        self._write_down(method, bucket, _CORS, {}, body)
        return Answer(204 if method == "DELETE" else 200, {}, b"")

    def _ask(self, method: str, origin: str, path: str, query: str, headers: dict[str, str], body: bytes) -> Answer:
        sent = {name: value for name, value in headers.items() if name not in _FRAMING}
        response = self._client.open(path, base_url=origin, method=method, query_string=query, headers=sent, data=body)
        return Answer(response.status_code, dict(response.headers), response.get_data())

    def _tell(self, method: str, bucket: str, query: str, headers: dict[str, str], body: bytes) -> None:
        answer = self._ask(method, self._origin, f"/{bucket}", query, headers, body)
        if answer.status >= 300:
            log.warning("%s /%s?%s answered %s: %s", method, bucket, query, answer.status, answer.body)
            return
        self._write_down(method, bucket, query, headers, body)

    def _write_down(self, method: str, bucket: str, query: str, headers: dict[str, str], body: bytes) -> None:
        name = f"{bucket}?{query}"
        if method == "DELETE":
            removed = [name] if query else [known for known in self._configured if known.startswith(f"{bucket}?")]
            for known in removed:
                self._configured.pop(known, None)
        else:
            self._configured[name] = {
                "bucket": bucket,
                "query": query,
                "headers": {key: value for key, value in headers.items() if key not in _UNSAID},
                "body": base64.b64encode(body).decode(),
            }
        self._disk.write_json(self._file, list(self._configured.values()))

    def _replay(self, recorded: list[dict[str, Any]]) -> None:
        for entry in recorded:
            body = base64.b64decode(entry["body"])
            if entry["query"] == _CORS:
                self._write_down("PUT", entry["bucket"], _CORS, {}, body)
                continue
            self._tell("PUT", entry["bucket"], entry["query"], entry["headers"], body)
