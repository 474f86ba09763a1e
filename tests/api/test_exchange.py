"""The envelope of an exchange around a bare ASGI application: headers, ids, the log line, and writing at once."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from freezegun import freeze_time
from starlette.types import Message, Receive, Scope, Send
from structlog.testing import capture_logs

from broker.api.asgi.document import AT_ONCE, Document
from broker.api.asgi.middleware import Envelope
from broker.logs import REQUEST_ID, access_log

ID = "01980f2c-6b1e-7c3a-9d52-0f6a4f1be7a3"
App = Callable[[Scope, Receive, Send], Awaitable[None]]
SECURITY = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]
OF_A_PAGE = (b"content-security-policy", b"frame-ancestors 'none'; object-src 'none'; base-uri 'none'")
OVER_TLS = (b"strict-transport-security", b"max-age=31536000")


@pytest.fixture(autouse=True)
def through_structlog(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the lines of requests where `capture_logs` sees them."""
    monkeypatch.setattr(access_log, "_stream", None)


async def nothing_more() -> Message:
    raise AssertionError("the body was read")


def scope_of(*headers: tuple[bytes, bytes], **members: Any) -> Scope:
    return {
        "type": "http",
        "method": "GET",
        "path": "/",
        "scheme": "http",
        "client": ("198.51.100.1", 50000),
        "headers": list(headers),
        **members,
    }


async def exchanged(app: App, scope: Scope) -> tuple[list[Message], list[Any]]:
    """Return what is sent, and what is logged."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    with capture_logs() as logs:
        await Envelope(app)(scope, nothing_more, send)
    return sent, logs


def answering(*headers: tuple[bytes, bytes], status: int = 200, parts: tuple[bytes, ...] = (b"body",)) -> App:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        for number, part in enumerate(parts, 1):
            await send({"type": "http.response.body", "body": part, "more_body": number < len(parts)})

    return app


@pytest.mark.parametrize(
    ("scheme", "headers", "added"),
    [
        ("http", [], SECURITY),
        ("https", [], [*SECURITY, OVER_TLS]),
        ("http", [(b"content-type", b"text/html; charset=utf-8")], [*SECURITY[:3], OF_A_PAGE]),
        ("https", [(b"content-type", b"text/html")], [*SECURITY[:3], OF_A_PAGE, OVER_TLS]),
        ("http", [(b"content-type", b"text/plain")], SECURITY),
        ("http", [(b"referrer-policy", b"origin")], [SECURITY[0], *SECURITY[2:]]),
    ],
)
async def test_a_response_gets_the_security_headers_that_it_does_not_set(
    scheme: str, headers: list[tuple[bytes, bytes]], added: list[tuple[bytes, bytes]]
) -> None:
    sent, _ = await exchanged(answering(*headers, parts=(b"a", b"b")), scope_of((b"x-request-id", b"7"), scheme=scheme))
    assert sent == [
        {"type": "http.response.start", "status": 200, "headers": [*headers, *added, (b"x-request-id", b"7")]},
        {"type": "http.response.body", "body": b"a", "more_body": True},
        {"type": "http.response.body", "body": b"b", "more_body": False},
    ]


async def test_a_response_may_have_no_headers() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    sent, _ = await exchanged(app, scope_of((b"x-request-id", b"7")))
    assert sent[0]["headers"] == [*SECURITY, (b"x-request-id", b"7")]


@pytest.mark.parametrize(
    ("sent", "is_kept"),
    [
        (b"a", True),
        (b"A-z.0_=" + b"a" * 57, True),
        (b"a" * 65, False),
        (b"", False),
        (b"a b", False),
        (b"a\n", False),
        (None, False),
    ],
)
async def test_a_request_has_the_clients_id_or_a_new_one(sent: bytes | None, is_kept: bool) -> None:
    seen: list[str | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(REQUEST_ID.get())
        await answering()(scope, receive, send)

    before = REQUEST_ID.get()
    headers = [] if sent is None else [(b"x-request-id", sent)]
    (start, _), (line,) = await exchanged(app, scope_of(*headers))
    assert REQUEST_ID.get() == before
    (request_id,) = [value.decode() for name, value in start["headers"] if name == b"x-request-id"]
    assert seen == [request_id]
    assert line["request_id"] == request_id
    if is_kept:
        assert request_id.encode() == sent
    else:
        assert len(request_id) == 32
        assert int(request_id, 16) >= 0


def test_two_new_ids_differ() -> None:
    async def ids() -> set[str]:
        return {(await exchanged(answering(), scope_of()))[1][0]["request_id"] for _ in range(3)}

    assert len(asyncio.run(ids())) == 3


class Route:
    path = "/{media_id}"

    def __repr__(self) -> str:
        return self.path


@pytest.mark.parametrize(
    ("members", "logged"),
    [
        ({}, {"route": None, "media_id": None, "client": "198.51.100.1"}),
        ({"client": None}, {"client": None}),
        ({"route": Route()}, {"route": "/{media_id}"}),
        ({"route": "of another kind"}, {"route": None}),
        ({"path_params": {}}, {"media_id": None}),
        ({"path_params": {"media_id": ID}}, {"media_id": ID}),
        ({"path_params": {"media_id": ID.upper()}}, {"media_id": ID}),
        ({"path_params": {"media_id": UUID(ID).hex}}, {"media_id": ID}),
        ({"path_params": {"media_id": "a secret"}}, {"media_id": None}),
    ],
    ids=str,
)
async def test_a_request_is_logged_without_its_path(members: dict[str, Any], logged: dict[str, Any]) -> None:
    with freeze_time("2026-01-01") as clock:

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            clock.tick(timedelta(seconds=1.2345678))
            scope.update(members)
            await answering(status=202)(scope, receive, send)

        _, (line,) = await exchanged(app, scope_of(method="POST"))
    assert line.pop("request_id")
    assert line == {
        "event": "request",
        "log_level": "info",
        "method": "POST",
        "status": 202,
        "milliseconds": 1234.57,
        "route": None,
        "media_id": None,
        "client": "198.51.100.1",
        **logged,
    }


async def test_a_client_may_be_unknown_to_the_server() -> None:
    scope = scope_of()
    del scope["client"]
    _, (line,) = await exchanged(answering(), scope)
    assert line["client"] is None


async def test_what_is_no_request_passes() -> None:
    passed: list[Any] = []

    async def app(*arguments: Any) -> None:
        passed.append(arguments)

    scope: Scope = {"type": "lifespan"}
    unused: Any = object()
    await Envelope(app)(scope, nothing_more, unused)
    assert passed == [(scope, nothing_more, unused)]


@pytest.mark.parametrize(
    ("before", "types"),
    [
        ([], ["http.response.start", "http.response.body"]),
        (["start"], ["http.response.start", "http.response.body"]),
        (["start", "part"], ["http.response.start", "http.response.body"]),
    ],
    ids=["nothing", "the start", "the start and a part"],
)
async def test_a_failure_is_answered_unless_an_answer_is_under_way(before: list[str], types: list[str]) -> None:
    error, sent, seen = ValueError("secret"), list[Message](), list[str | None]()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(REQUEST_ID.get())
        if "start" in before:
            await send({"type": "http.response.start", "status": 201, "headers": []})
        if "part" in before:
            await send({"type": "http.response.body", "body": b"part", "more_body": True})
        raise error

    async def send(message: Message) -> None:
        sent.append(message)

    with capture_logs() as logs, pytest.raises(ValueError, match="secret") as raised:
        await Envelope(app)(scope_of(), nothing_more, send)
    assert raised.value is error
    assert [message["type"] for message in sent] == types
    status = 201 if "part" in before else 500
    assert sent[0]["status"] == logs[0]["status"] == status
    assert [REQUEST_ID.get()] == seen  # for the line of the server
    assert b"secret" not in b"".join(message.get("body", b"") for message in sent)


class Offer:
    """A server that offers to write a complete response at once, and does so or not."""

    def __init__(self, *, writes: bool = True) -> None:
        self.writes = writes
        self.written: list[tuple[Any, ...]] = []
        self.extensions: dict[str, Any] = {AT_ONCE: self.write}

    def write(self, *arguments: Any) -> bool:
        self.written.append(arguments)
        return self.writes


ENVELOPED = [(b"a", b"b"), *SECURITY, (b"x-request-id", b"7")]


@pytest.mark.parametrize("writes", [True, False])
async def test_a_whole_response_is_written_at_once_if_the_server_does_that(writes: bool) -> None:
    offer = Offer(writes=writes)
    scope = scope_of((b"x-request-id", b"7"), extensions=offer.extensions)
    sent, (line,) = await exchanged(answering((b"a", b"b"), status=201), scope)
    ((offered_scope, send, status, headers, body),) = offer.written
    assert (offered_scope is scope, callable(send)) == (True, True)
    assert (status, headers, body) == (201, ENVELOPED, b"body")
    assert [message["type"] for message in sent] == ([] if writes else ["http.response.start", "http.response.body"])
    assert line["status"] == 201
    assert offer.extensions == {}


async def test_a_response_in_parts_is_not_written_at_once() -> None:
    offer = Offer()
    sent, _ = await exchanged(answering(parts=(b"a", b"b")), scope_of(extensions=offer.extensions))
    assert not offer.written
    assert [message.get("body") for message in sent] == [None, b"a", b"b"]


async def test_a_response_without_a_body_is_written_at_once() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    offer = Offer()
    await exchanged(app, scope_of(extensions=offer.extensions))
    assert offer.written[0][4] == b""


@pytest.mark.parametrize("writes", [True, False])
async def test_a_document_takes_the_servers_offer_with_the_headers_of_the_envelope(writes: bool) -> None:
    offer = Offer(writes=writes)
    scope = scope_of((b"x-request-id", b"7"), extensions=offer.extensions)
    document = Document(b"{}", 201)
    sent, (line,) = await exchanged(document, scope)
    if writes:
        ((offered_scope, send, status, headers, body),) = offer.written
        assert (offered_scope is scope, callable(send)) == (True, True)
        assert (status, body, sent) == (201, b"{}", [])
        assert headers == [*document.raw_headers, *SECURITY, (b"x-request-id", b"7")]
    else:
        assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert line["status"] == 201


async def test_an_offer_is_not_taken_for_another_request_or_another_way_to_send() -> None:
    offer, taken = Offer(), list[bool]()
    scope = scope_of(extensions=offer.extensions)

    async def app(own: Scope, receive: Receive, send: Send) -> None:
        async def wrapped(message: Message) -> None:
            await send(message)

        at_once = own["extensions"][AT_ONCE]
        taken.append(at_once({**own}, send, 200, [], b""))
        taken.append(at_once(own, wrapped, 200, [], b""))
        taken.append(at_once(own, send, 200, [], b""))
        taken.append(at_once(own, send, 200, [], b""))

    sent, (line,) = await exchanged(app, scope)
    assert (taken, len(offer.written), sent, line["status"]) == ([False, False, True, False], 1, [], 200)


async def test_a_failure_after_a_response_that_was_written_at_once_is_not_answered() -> None:
    offer = Offer()

    async def app(own: Scope, receive: Receive, send: Send) -> None:
        own["extensions"][AT_ONCE](own, send, 200, [], b"")
        raise ValueError("secret")

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    with pytest.raises(ValueError, match="secret"):
        await Envelope(app)(scope_of(extensions=offer.extensions), nothing_more, send)
    assert not sent
