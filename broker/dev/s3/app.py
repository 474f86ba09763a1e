"""The ASGI application: it reads and authenticates a request, runs its operation, and adds the CORS headers."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from broker.dev.s3 import cors
from broker.dev.s3.answers import refusal, request_ids
from broker.dev.s3.auth import is_anonymous
from broker.dev.s3.clock import http_date
from broker.dev.s3.errors import S3Error
from broker.dev.s3.faults import Fault, Faults
from broker.dev.s3.operations import CONFIGURE, OPERATIONS, POST_OBJECT, PREFLIGHT, operation_name
from broker.dev.s3.other_services import other_service, serve
from broker.dev.s3.payload import Payload
from broker.dev.s3.plane import Plane
from broker.dev.s3.post_object import post_object
from broker.dev.s3.request import Request, read_request
from broker.dev.s3.unserved import refuse_unserved

log = logging.getLogger(__name__)


class _ConnectionResetError(Exception):
    pass


@dataclass(slots=True)
class S3App:
    """Serve S3 and, on the same port, the other services that a client signs for.

    `reset` breaks the connection of a request, for ordered faults.
    """

    plane: Plane
    faults: Faults = field(default_factory=Faults)
    reset: Callable[[Scope], None] = lambda scope: None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])
        body = _Body(receive)
        http = HttpRequest(scope, body.receive)
        try:
            response = await self._respond(http, body)
        except ClientDisconnect:
            return
        except _ConnectionResetError:
            self.reset(scope)
            # Let the server notice the lost connection before this call returns without a response.
            await asyncio.sleep(0.05)
            return
        response.headers["date"] = http_date(self.plane.clock.now())
        await response(scope, receive, send)

    async def _respond(self, http: HttpRequest, body: "_Body") -> Response:
        if (service := other_service(http)) is not None:
            return await serve(http, service, self.plane.services, self.plane.authenticator.keyring)
        ids, request = request_ids(), None
        try:
            request = read_request(http)
            response = await self._serve(request)
        except S3Error as error:
            response = await _refuse(http, body, error, ids)
        except (ClientDisconnect, _ConnectionResetError):
            raise
        except Exception:
            log.exception("%s %s", http.method, http.url.path)
            response = await _refuse(http, body, S3Error("InternalError"), ids)
        headers = ids | {"server": "AmazonS3"}
        if request is not None and request.method != "OPTIONS":
            headers |= cors.answer_headers(self.plane.services, request)
        for name, value in headers.items():
            response.headers[name] = value
        return response

    async def _serve(self, request: Request) -> Response:
        operation = operation_name(request)
        fault = self.faults.take(operation, request.key)
        if fault is not None and fault.when == "before":
            await _meet(fault)
        response = await self._operate(operation, request)
        if fault is not None and fault.when == "after":
            await _meet(fault)
        return response

    async def _operate(self, operation: str, request: Request) -> Response:
        if operation == PREFLIGHT:
            return cors.preflight(self.plane.services, request)
        if operation == POST_OBJECT:
            return await post_object(self.plane, request)
        self._check_bucket_of_anonymous(operation, request)
        payload = Payload(request, self.plane.authenticator.authenticate(request))
        refuse_unserved(request.fields)
        return await OPERATIONS[operation](self.plane, request, payload)

    def _check_bucket_of_anonymous(self, operation: str, request: Request) -> None:
        """Refuse a request without a signature with `NoSuchBucket` if it names an absent bucket."""
        creates = operation == CONFIGURE and request.method == "PUT" and not request.params
        if request.bucket and is_anonymous(request) and not creates:
            self.plane.services.bucket(request.bucket)


async def _meet(fault: Fault) -> None:
    await asyncio.sleep(fault.delay_seconds)
    if fault.reset:
        raise _ConnectionResetError
    if (error := fault.error()) is not None:
        raise error


class _Body:
    """The body of a request, and whether reading it has begun."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.begun = False

    async def receive(self) -> Message:
        """Return the next message; the server sends `100 Continue` before the first one."""
        self.begun = True
        return await self._receive()


async def _refuse(http: HttpRequest, body: _Body, error: S3Error, ids: dict[str, str]) -> Response:
    """Return a refusal, after the rest of the body was read so that the client can read the answer.

    A client that waits for `100 Continue` gets the refusal instead, and keeps its body.
    """
    response = refusal(error, ids, head=http.method == "HEAD")
    if http.headers.get("expect", "").lower() == "100-continue" and not body.begun:
        response.headers["connection"] = "close"
        return response
    with suppress(ClientDisconnect, RuntimeError):
        async for _ in http.stream():
            pass
    return response
