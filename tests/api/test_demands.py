"""The checks of a request before its route: fields, target, token and limits, without an application around them."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from starlette.types import Message, Receive, Scope, Send

from broker.api.asgi import body as bodies
from broker.api.asgi.body import ARRIVED_BODY, MAX_BYTES, check_announced, read_body
from broker.api.asgi.cors import with_cors
from broker.api.asgi.demands import CALLER, AddressDemand, TokenDemand, bearer_token, client_address
from broker.api.asgi.document import AT_ONCE, Document
from broker.api.asgi.failure import FailedResponse, is_handled_by_host
from broker.api.asgi.fields import field_of, is_repeated
from broker.api.asgi.target import CheckedTarget, base_address, host_of, origin_of
from broker.api.limits.windows import Standing
from broker.api.state import STATE_NAME, Services
from broker.clock import utc_now
from broker.errors import (
    BodyCutShort,
    BodyTooLarge,
    BodyTooSlow,
    HostInvalid,
    MediaNotFound,
    NotAuthenticated,
    PermissionMissing,
)
from tests.api.services import services_of
from tests.support.serving import token

NO_TOKEN = {"reason": "there is none", "token_sent": False}
ODD_FIELD = {"reason": "there must be one Authorization field, of the form 'Bearer <token>'", "token_sent": True}


async def nothing_more() -> Message:
    raise AssertionError("the body was read")


def request_of(
    *headers: tuple[bytes, bytes], services: Services | None = None, receive: Receive = nothing_more, **scope: Any
) -> Request:
    known = {"type": "http", "headers": list(headers), "client": ("198.51.100.1", 50000), "path_params": {}}
    return Request({**known, "state": {STATE_NAME: services or services_of()}, **scope}, receive)


def authorized(value: str | bytes) -> tuple[bytes, bytes]:
    return b"authorization", value if isinstance(value, bytes) else value.encode()


def test_a_repeated_field_has_its_first_value() -> None:
    scope = {"headers": [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]}
    assert [field_of(scope, name) for name in (b"a", b"b", b"c")] == [b"1", b"2", None]
    assert [is_repeated(scope, name) for name in (b"a", b"b", b"c")] == [True, False, False]


@pytest.mark.parametrize("value", [b"Bearer t", b"bearer t", b"BEARER   t ", b"Bearer  t"])
def test_a_bearer_token_is_read(value: bytes) -> None:
    assert bearer_token(request_of(authorized(value))) == "t"


def test_a_token_is_read_byte_by_byte() -> None:
    assert bearer_token(request_of(authorized(b"Bearer Xt\xe9\tX"))) == "Xté\tX"


@pytest.mark.parametrize(
    ("headers", "facts"),
    [
        ([], NO_TOKEN),
        *(([authorized(value)], ODD_FIELD) for value in ("", "t", "Bearer", "Bearer ", "Bearert", "Basic t")),
        ([authorized("Bearer t"), authorized("Bearer t")], ODD_FIELD),
    ],
)
def test_a_field_that_is_not_one_bearer_token_is_refused(headers: Any, facts: dict[str, object]) -> None:
    with pytest.raises(NotAuthenticated) as refused:
        bearer_token(request_of(*headers))
    assert refused.value.facts == facts


@pytest.mark.parametrize(
    ("scope", "address"),
    [({}, "198.51.100.1"), ({"client": None}, "unknown"), ({"client": ("::ffff:192.0.2.1", 1)}, "192.0.2.1")],
)
def test_a_client_is_counted_by_its_address(scope: dict[str, Any], address: str) -> None:
    assert client_address(request_of(**scope)) == address
    nameless = request_of()
    del nameless.scope["client"]
    assert client_address(nameless) == "unknown"


def left(standing: Standing | None) -> tuple[str, int] | None:
    return None if standing is None else (standing.limit.kind, standing.remaining)


async def test_an_address_is_within_the_limit_of_its_kind() -> None:
    services = services_of()
    demand = AddressDemand("health")
    assert left(await demand.admit(request_of(services=services))) == ("health", 1)
    other = request_of(services=services, client=("198.51.100.2", 1))
    assert left(await demand.admit(other)) == ("health", 1)
    assert left(await demand.admit(request_of(services=services))) == ("health", 0)


async def test_a_token_admits_its_caller_within_the_limits_of_address_and_owner() -> None:
    services = services_of()
    anna = authorized(f"Bearer {token('anna')}")
    request = request_of(anna, services=services)
    assert left(await TokenDemand("media:upload", "issue").admit(request)) == ("issue", 1)
    assert request.scope[CALLER].owner == "anna"
    assert await TokenDemand("media:upload", "issue")(request) is request.scope[CALLER]
    berta = request_of(authorized(f"Bearer {token('berta')}"), services=services, client=("198.51.100.9", 1))
    assert left(await TokenDemand("media:upload", "issue").admit(berta)) == ("issue", 1)
    without_limit = request_of(anna, services=services)
    assert left(await TokenDemand("media:upload", "delete").admit(without_limit)) == ("address", 0)


async def test_a_token_without_the_permission_is_counted_for_its_address_alone() -> None:
    services = services_of()
    with pytest.raises(PermissionMissing) as missing:
        await TokenDemand("media:upload", "issue").admit(
            request_of(authorized(f"Bearer {token('anna', 'media:read')}"), services=services)
        )
    assert missing.value.facts == {"permission": "media:upload"}
    standing = await services.limits.count("issue", "anna")
    assert left(standing) == ("issue", 1)
    assert left(await services.limits.count("address", "198.51.100.1")) == ("address", 0)


@pytest.mark.parametrize(
    ("options", "scope", "kind"),
    [
        ({"spare_delegates": True}, "media:upload media:delegate", "address"),
        ({"spare_delegates": True}, "media:upload", "issue"),
        ({}, "media:upload media:delegate", "issue"),
    ],
)
async def test_a_delegate_is_spared_where_its_route_counts_it(options: dict[str, bool], scope: str, kind: str) -> None:
    demand = TokenDemand("media:upload", "issue", **options)
    standing = await demand.admit(request_of(authorized(f"Bearer {token('anna', scope)}")))
    assert left(standing) == (kind, 1)


@pytest.mark.parametrize(
    ("named", "error"),
    [("this", None), ("another", MediaNotFound), ("none", None)],
    ids=["its own", "another", "no id"],
)
async def test_an_upload_token_admits_to_its_media(named: str, error: type[Exception] | None) -> None:
    services, media_id = services_of(), uuid4()
    path = {"this": str(media_id), "another": str(uuid4()), "none": "not-an-id"}[named]
    own = authorized(f"Bearer {services.upload_tokens.make(media_id, utc_now() + timedelta(minutes=1))}")
    request = request_of(own, services=services, path_params={"media_id": path})
    demand = TokenDemand("media:upload", "playback", or_upload_token=True)
    if error is None:
        assert left(await demand.admit(request)) == ("playback", 1)
        assert request.scope[CALLER].upload == media_id
    else:
        with pytest.raises(error):
            await demand.admit(request)
    assert left(await services.limits.count("playback", f"upload {media_id.hex}")) == ("playback", 0)


async def test_an_upload_token_has_no_other_permission() -> None:
    services = services_of()
    own = authorized(f"Bearer {services.upload_tokens.make(uuid4(), utc_now())}")
    with pytest.raises(PermissionMissing) as missing:
        await TokenDemand("media:delete", "delete").admit(request_of(own, services=services))
    assert missing.value.facts == {"permission": "media:delete"}


def test_the_document_describes_the_token() -> None:
    demand = TokenDemand("media:read", "playback")
    assert (demand.scheme_name, demand.model.bearerFormat) == ("bearer", "JWT")  # type: ignore[attr-defined]
    assert demand.model.description == (
        "A JWT that names its owner and its permissions. On the routes of one media, its upload_token."
    )


@pytest.mark.parametrize(
    ("length", "is_refused"),
    [
        (None, False),
        (b"0", False),
        (b"65536", False),
        (b"65537", True),
        (b"9" * 40, True),
        (b"0" * 30 + b"1", False),
        (b"-1", False),
        (b"x", False),
    ],
)
def test_a_body_that_is_announced_as_too_large_is_refused(length: bytes | None, is_refused: bool) -> None:
    scope = {"headers": [] if length is None else [(b"content-length", length)]}
    if not is_refused:
        check_announced(scope)
        return
    with pytest.raises(BodyTooLarge) as refused:
        check_announced(scope)
    assert refused.value.facts == {"max_size": MAX_BYTES}


def receiving(*chunks: bytes) -> Receive:
    """Return an ASGI `receive` that brings these chunks, then waits."""
    left_over = list(chunks)

    async def receive() -> Message:
        if not left_over:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": left_over.pop(0), "more_body": bool(left_over)}

    return receive


@pytest.mark.parametrize("extensions", [{}, {"extensions": {}}, {"extensions": {ARRIVED_BODY: lambda _: None}}])
async def test_a_body_is_read_in_chunks_up_to_its_limit(extensions: dict[str, Any]) -> None:
    assert await read_body(request_of(receive=receiving(b"a", b"b"), **extensions)) == b"ab"
    most = request_of(receive=receiving(b"a" * (MAX_BYTES - 1), b"b"), **extensions)
    assert len(await read_body(most)) == MAX_BYTES
    with pytest.raises(BodyTooLarge) as refused:
        await read_body(request_of(receive=receiving(b"a" * MAX_BYTES, b"b"), **extensions))
    assert refused.value.facts == {"max_size": MAX_BYTES}


async def test_a_body_that_has_arrived_is_taken_from_the_server() -> None:
    taken: list[Receive] = []

    def arrived(size: int) -> dict[str, Any]:
        def body(receive: Receive) -> bytes:
            taken.append(receive)
            return b"a" * size

        return {"extensions": {ARRIVED_BODY: body}}

    assert await read_body(request_of(**arrived(MAX_BYTES))) == b"a" * MAX_BYTES
    assert taken == [nothing_more]
    assert await read_body(request_of(**arrived(0))) == b""
    with pytest.raises(BodyTooLarge) as refused:
        await read_body(request_of(**arrived(MAX_BYTES + 1)))
    assert refused.value.facts == {"max_size": MAX_BYTES}


async def test_a_body_that_stops_or_ends_early_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def gone() -> Message:
        return {"type": "http.disconnect"}

    with pytest.raises(BodyCutShort):
        await read_body(request_of(receive=gone))
    monkeypatch.setattr(bodies, "MAX_SECONDS", 0.01)
    with pytest.raises(BodyTooSlow) as refused:
        await read_body(request_of(receive=receiving()))
    assert refused.value.facts == {"seconds": 0.01}


INVALID_HOST = {"reason": "there must be exactly one, a host name or an IP address with an optional port"}


@pytest.mark.parametrize(
    ("hosts", "version", "host"),
    [
        ([b"a.example"], "1.1", "a.example"),
        ([b"A_b.example:65535"], "1.1", "A_b.example:65535"),
        ([b"[2001:db8::1]:80"], "1.1", "[2001:db8::1]:80"),
        ([], "1.0", None),
        ([], "1.1", INVALID_HOST),
        ([b"a", b"b"], "1.0", INVALID_HOST),
        ([b"a.example:"], "1.1", INVALID_HOST),
        ([b"a.example:123456"], "1.1", INVALID_HOST),
        ([b"a/b"], "1.1", INVALID_HOST),
        ([b""], "1.1", INVALID_HOST),
    ],
)
def test_a_request_has_one_valid_host(hosts: list[bytes], version: str, host: object) -> None:
    scope = {"headers": [(b"x", b"y"), *((b"host", each) for each in hosts)], "http_version": version}
    if isinstance(host, dict):
        with pytest.raises(HostInvalid) as refused:
            host_of(scope)
        assert refused.value.facts == host
    else:
        assert host_of(scope) == host


def test_a_request_without_a_version_needs_a_host() -> None:
    with pytest.raises(HostInvalid):
        host_of({"headers": []})


@pytest.mark.parametrize(
    ("scheme", "expected"), [("http", "http"), ("https", "https"), ("ws", "http"), ("wss", "https"), ("gopher", "http")]
)
def test_an_origin_has_a_scheme_of_the_web(scheme: str, expected: str) -> None:
    assert origin_of({"headers": [(b"host", b"a.example")], "scheme": scheme}) == f"{expected}://a.example"
    hostless = {"headers": [], "http_version": "1.0", "scheme": scheme, "server": ("10.0.0.1", 8000)}
    assert origin_of(hostless) == f"{expected}://10.0.0.1:8000"


@pytest.mark.parametrize(
    ("public_url", "path", "route", "expected"),
    [
        (None, "/v1/7/complete", "/{media_id}/complete", "https://a.example/v1"),
        ("https://b.example", "/v1/7/complete", "/{media_id}/complete", "https://b.example/v1"),
        (None, "/v1/upload", "/upload", "https://a.example/v1"),
        (None, "/v1/", "/", "https://a.example/v1"),
    ],
)
def test_a_base_address_is_above_the_route(public_url: str | None, path: str, route: str, expected: str) -> None:
    request = request_of(
        (b"host", b"a.example"),
        services=services_of(public_url),
        scheme="https",
        path=path,
        path_params={"media_id": "7"},
    )
    assert base_address(request, route) == expected


@pytest.mark.parametrize(
    ("allowed", "host", "path", "status"),
    [
        ([], "any.example", "/a", 200),
        (["a.example"], "a.example", "/a", 200),
        (["a.example"], "A.EXAMPLE:8000", "/a", 200),
        (["a.example"], "b.example", "/a", 400),
        (["a.example"], "xa.example", "/a", 400),
        (["a.example"], "b.example", "/healthz", 200),
        (["a.example"], "b.example", "/readyz", 200),
        (["a.example"], "b.example", "/healthz/a", 400),
        (["*.a.example"], "x.a.example:1", "/a", 200),
        (["*.a.example"], "a.example", "/a", 400),
        (["*.a.example"], "xa.example", "/a", 400),
        (["a.example", "*.b.example"], "a.example", "/a", 200),
        (["a.example", "*.b.example"], "x.b.example", "/a", 200),
        (["a.example", "*.b.example"], "c.example", "/a", 400),
        (["a.example"], "a.example:x", "/a", 400),
        ([], "any.example", "/%61", 404),
    ],
)
async def test_the_target_is_checked_before_the_application(
    allowed: list[str], host: str, path: str, status: int
) -> None:
    passed: list[tuple[Scope, Receive, Send]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        passed.append((scope, receive, send))

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "path": path, "raw_path": path.encode(), "headers": [(b"host", host.encode())]}
    await CheckedTarget(app, allowed)(scope, nothing_more, send)
    if status == 200:
        assert passed == [(scope, nothing_more, send)]
        assert not sent
    else:
        assert not passed
        assert sent[0]["status"] == status
        problem = b"".join(message.get("body", b"") for message in sent)
        if status == 404:
            assert b"No route has this path" in problem
        elif re.fullmatch(r"[\w.]+(:\d+)?", host):
            assert b"is not valid: it is not one that is served here." in problem
        else:
            assert b"is not valid: there must be exactly one, a host" in problem


async def test_a_target_is_checked_for_http_alone() -> None:
    passed: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        passed.append(scope)

    unused: Any = None
    websocket = {"type": "websocket", "path": "/%61", "raw_path": b"/%61", "headers": []}
    without_raw_path = {"type": "http", "path": "/%61", "headers": [(b"host", b"a.example")]}
    for scope in (websocket, without_raw_path):
        await CheckedTarget(app, ["a.example"])(scope, unused, unused)
    assert passed == [websocket, without_raw_path]


async def sent_by(response: Callable[[Scope, Receive, Send], Awaitable[None]], scope: Scope) -> list[Message]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await response({"type": "http", **scope}, nothing_more, send)
    return sent


DOCUMENT_HEADERS = [
    (b"content-length", b"2"),
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
]


@pytest.mark.parametrize("offer", [{}, {"extensions": {}}, {"extensions": {AT_ONCE: lambda *_: False}}])
async def test_a_document_is_json_that_no_cache_stores(offer: dict[str, Any]) -> None:
    document = Document(b"{}", 201)
    start, body = await sent_by(document, offer)
    assert (start["status"], start["headers"], body["body"]) == (201, DOCUMENT_HEADERS, b"{}")
    assert Document(b"{}").status_code == 200
    assert document.media_type == "application/json"


async def test_a_document_is_written_at_once_if_the_server_offers_that() -> None:
    written: list[tuple[Any, ...]] = []

    def at_once(*arguments: Any) -> bool:
        written.append(arguments)
        return True

    offer = {"extensions": {AT_ONCE: at_once}}
    assert await sent_by(Document(b"{}", 201), offer) == []
    ((scope, send, status, headers, body),) = written
    assert (scope["extensions"], callable(send)) == (offer["extensions"], True)
    assert (status, headers, body) == (201, DOCUMENT_HEADERS, b"{}")


async def test_a_document_with_a_task_behind_it_is_sent() -> None:
    done: list[bool] = []

    async def background() -> None:
        done.append(True)

    document = Document(b"{}")
    document.background = background  # type: ignore[assignment]
    refused = {"extensions": {AT_ONCE: lambda *_: pytest.fail("the task would be left out")}}
    assert len(await sent_by(document, refused)) == 2
    assert done == [True]


async def test_a_failure_is_answered_and_then_raised() -> None:
    error = ValueError("secret")
    problem = Response(b"problem", 503, {"x-a": "1"})
    failed = FailedResponse(problem, error)
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    with pytest.raises(ValueError, match="secret") as raised:
        await failed({"type": "http"}, nothing_more, send)
    assert raised.value is error
    assert (sent[0]["status"], sent[0]["headers"], sent[1]["body"]) == (503, problem.raw_headers, b"problem")


@pytest.mark.parametrize(
    ("handled", "expected"),
    [
        ([], False),
        ([500], True),
        ([KeyError], True),
        ([LookupError], True),
        ([Exception], True),
        ([ValueError, 404], False),
    ],
)
def test_a_host_handles_an_error_by_its_class_or_a_parent(handled: list[Any], expected: bool) -> None:
    app = FastAPI()
    app.exception_handlers = dict.fromkeys(handled, lambda *_: Response())
    assert is_handled_by_host(request_of(app=app), KeyError()) is expected


async def test_pages_of_the_origins_may_call_with_the_headers() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Response("body")(scope, receive, send)

    allowing = with_cors(
        app, origins=["https://a.example", "https://*.b.example", "https://*.c.example"], headers=["X-Shop"]
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=allowing), base_url="http://s") as client:
        for origin in ("https://a.example", "https://x.b.example", "https://x.c.example"):
            asked = {
                "Origin": origin,
                "Access-Control-Request-Method": "DELETE",
                "Access-Control-Request-Headers": "x-shop,authorization,traceparent,x-request-id",
            }
            allowed = await client.options("/", headers=asked)
            assert allowed.status_code == 200
            preflight = allowed.headers
            assert preflight["access-control-allow-origin"] == origin
            assert preflight["access-control-allow-methods"] == "GET, POST, DELETE"
            assert preflight["access-control-max-age"] == "600"
            answer = (await client.get("/", headers={"Origin": origin})).headers
            assert answer["access-control-allow-origin"] == origin
            assert answer["access-control-expose-headers"] == (
                "RateLimit, RateLimit-Policy, Retry-After, WWW-Authenticate, X-Request-ID"
            )
        for origin in ("https://b.example", "https://evil.example", "https://*.b.example"):
            refused = await client.options("/", headers={"Origin": origin, "Access-Control-Request-Method": "GET"})
            assert refused.status_code == 400
    without = with_cors(app, origins=["https://a.example"], headers=[])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=without), base_url="http://s") as client:
        assert "access-control-allow-origin" not in (await client.get("/", headers={"Origin": ""})).headers
