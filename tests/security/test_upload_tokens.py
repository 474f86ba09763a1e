"""Uploads on behalf of an owner, and upload tokens: which token may do what, on every route and in every state."""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from fastapi.routing import iter_route_contexts

from broker.api.asgi.demands import TokenDemand
from broker.api.asgi.route import ProblemRoute
from broker.api.auth.upload_tokens import UploadTokens
from broker.app import PREFIX, create_app
from broker.clock import utc_now
from broker.dev.s3 import EmbeddedS3
from broker.errors import NotAuthenticated
from broker.logs import REDACTED, Redact
from tests.support.in_parts import FILE, PART, piece
from tests.support.serving import ALL, SECRET, bearing, client_of, on_s3, settings_of, token
from tests.support.world import VIDEO, Clock

BACKEND = bearing(token("backend", "media:upload media:delegate"))
UPLOAD = {"content_type": "video/mp4", "size": len(VIDEO)}

ROUTES = {
    "issue": ("POST", "/upload"),
    "issue many": ("POST", "/uploads"),
    "rules": ("GET", "/rules"),
    "parts": ("GET", "/{media_id}/parts"),
    "complete": ("POST", "/{media_id}/complete"),
    "view": ("GET", "/{media_id}"),
    "list": ("GET", "/"),
    "delete": ("DELETE", "/{media_id}"),
    "erase": ("DELETE", "/"),
}
CALLERS = ("owner", "other", "delegate", "admin", "token", "token of another", "expired token", "token of a deleted")
MATRIX = {
    "pending": {
        "issue": (201, 201, 201, 201, 403, 403, 401, 403),
        "issue many": (201, 201, 201, 201, 403, 403, 401, 403),
        "rules": (200, 200, 200, 200, 403, 403, 401, 403),
        "parts": (409, 404, 404, 409, 409, 404, 401, 404),
        "complete": (409, 404, 404, 409, 409, 404, 401, 404),
        "view": (409, 404, 403, 409, 409, 404, 401, 404),
        "list": (200, 200, 403, 200, 403, 403, 401, 403),
        "delete": (200, 404, 403, 200, 200, 404, 401, 404),
        "erase": (403, 403, 403, 202, 403, 403, 401, 403),
    },
    "ready": {
        "issue": (201, 201, 201, 201, 403, 403, 401, 403),
        "issue many": (201, 201, 201, 201, 403, 403, 401, 403),
        "rules": (200, 200, 200, 200, 403, 403, 401, 403),
        "parts": (409, 404, 404, 409, 409, 404, 401, 404),
        "complete": (200, 404, 404, 200, 200, 404, 401, 404),
        "view": (200, 404, 403, 200, 200, 404, 401, 404),
        "list": (200, 200, 403, 200, 403, 403, 401, 403),
        "delete": (200, 404, 403, 200, 403, 404, 401, 404),
        "erase": (403, 403, 403, 202, 403, 403, 401, 403),
    },
    "deleting": {
        "issue": (201, 201, 201, 201, 403, 403, 401, 403),
        "issue many": (201, 201, 201, 201, 403, 403, 401, 403),
        "rules": (200, 200, 200, 200, 403, 403, 401, 403),
        "parts": (404, 404, 404, 404, 404, 404, 401, 404),
        "complete": (404, 404, 404, 404, 404, 404, 401, 404),
        "view": (404, 404, 403, 404, 404, 404, 401, 404),
        "list": (200, 200, 403, 200, 403, 403, 401, 403),
        "delete": (404, 404, 403, 404, 404, 404, 401, 404),
        "erase": (403, 403, 403, 202, 403, 403, 401, 403),
    },
}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def client(
    tmp_path: Path, embedded_s3: EmbeddedS3, make_bucket: Any, clock: Clock
) -> AsyncIterator[httpx.AsyncClient]:
    settings = settings_of(tmp_path, part_size=PART, **on_s3(embedded_s3, make_bucket()))
    async with client_of(create_app(settings, clock=clock)) as client:
        client.base_url = httpx.URL(f"http://broker.example{PREFIX}")
        yield client


async def issued_for(client: httpx.AsyncClient, owner: str = "anna", **asked: Any) -> dict[str, Any]:
    """Issue an upload on behalf of an owner, as a backend does."""
    answer = await client.post("/upload", json=UPLOAD | {"owner": owner} | asked, headers=BACKEND)
    assert answer.status_code == 201, answer.text
    issued: dict[str, Any] = answer.json()
    return issued


async def posted(client: httpx.AsyncClient, issued: dict[str, Any]) -> None:
    """Post the file to S3."""
    form = issued["upload"]
    async with httpx.AsyncClient() as s3:
        answer = await s3.post(form["url"], data=form["fields"], files={"file": ("a.mp4", VIDEO)})
    assert answer.status_code == 201


async def brought_to(client: httpx.AsyncClient, state: str) -> dict[str, Any]:
    """Issue a media for anna and bring it to a state."""
    issued = await issued_for(client)
    own = bearing(issued["upload_token"])
    if state == "ready":
        await posted(client, issued)
        assert (await client.post(f"/{issued['media_id']}/complete", headers=own)).status_code == 200
    if state == "deleting":
        assert (await client.delete(f"/{issued['media_id']}", headers=own)).status_code == 200
    return issued


async def asked(client: httpx.AsyncClient, route: str, media_id: object, headers: dict[str, str]) -> httpx.Response:
    method, path = ROUTES[route]
    body = {"issue": UPLOAD, "issue many": {"uploads": [UPLOAD]}}.get(route)
    query = {"owner": "zoe"} if route == "erase" else None
    return await client.request(method, path.format(media_id=media_id), params=query, json=body, headers=headers)


def without_request_id(answer: httpx.Response) -> tuple[int, bytes, list[tuple[str, str]]]:
    headers = [(name, value) for name, value in answer.headers.multi_items() if name != "x-request-id"]
    return answer.status_code, answer.content, headers


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("state", MATRIX)
async def test_each_token_on_each_route(client: httpx.AsyncClient, clock: Clock, state: str, route: str) -> None:
    clock.move(days=-2)
    expired = (await issued_for(client))["upload_token"]
    clock.move(days=2)
    another = (await issued_for(client))["upload_token"]
    deleted = (await brought_to(client, "deleting"))["upload_token"]
    answers: dict[str, int] = {}
    for caller in CALLERS:
        media = await brought_to(client, state)
        headers = bearing(
            {
                "owner": token("anna"),
                "other": token("berta"),
                "delegate": token("backend", "media:upload media:delegate"),
                "admin": token("carla", "media:admin"),
                "token": media["upload_token"],
                "token of another": another,
                "expired token": expired,
                "token of a deleted": deleted,
            }[caller]
        )
        answer = await asked(client, route, media["media_id"], headers)
        answers[caller] = answer.status_code
        if answer.status_code == 404:  # the same as of a media that never was
            assert without_request_id(answer) == without_request_id(await asked(client, route, uuid4(), headers))
    assert answers == dict(zip(CALLERS, MATRIX[state][route], strict=True))


def token_routes(app: Any) -> Iterator[tuple[str, str]]:
    for context in iter_route_contexts(app.routes):
        if isinstance(context.original_route, ProblemRoute) and (context.path or "").startswith(f"{PREFIX}/"):
            demands = [each.call for each in context.dependant.dependencies if isinstance(each.call, TokenDemand)]
            yield from ((method, context.path or "") for method in context.methods or () if demands)


def test_the_matrix_names_every_route_that_demands_a_token(tmp_path: Path) -> None:
    routes = {(method, path.removeprefix(PREFIX)) for method, path in token_routes(create_app(settings_of(tmp_path)))}
    assert routes == set(ROUTES.values())
    assert all(set(rows) == set(ROUTES) for rows in MATRIX.values())


async def test_a_page_with_only_an_upload_token_uploads_and_gets_no_link(client: httpx.AsyncClient) -> None:
    issued = await issued_for(client, filename="a.mp4")
    own = bearing(issued["upload_token"])
    pending = await client.get(f"/{issued['media_id']}", headers=own)
    assert (pending.status_code, pending.json()["media_status"]) == (409, "pending")
    await posted(client, issued)
    for method, path in (("POST", "/complete"), ("POST", "/complete"), ("GET", ""), ("GET", "?wait=5&download=true")):
        answer = await client.request(method, f"/{issued['media_id']}{path}", headers=own)
        assert answer.status_code == 200
        ready = answer.json()
        assert (ready["status"], ready["size"], ready["filename"]) == ("ready", len(VIDEO), "a.mp4")
        assert (ready["signed_url"], ready["expires_in"], ready["expires_at"]) == (None, None, None)
        assert ready["message"] == "The media is ready."
    owner = (await client.get(f"/{issued['media_id']}", headers=bearing(token("anna")))).json()
    assert owner["signed_url"]
    assert [one["media_id"] for one in await listed(client, "anna")] == [issued["media_id"]]
    assert await listed(client, "backend", "media:read") == []


async def listed(client: httpx.AsyncClient, owner: str, scope: str = ALL) -> list[dict[str, Any]]:
    media: list[dict[str, Any]] = (await client.get("/", headers=bearing(token(owner, scope)))).json()["media"]
    return media


async def test_a_link_comes_with_the_token_if_the_issuer_allowed_it(client: httpx.AsyncClient) -> None:
    issued = await issued_for(client, allow_link=True)
    own = bearing(issued["upload_token"])
    await posted(client, issued)
    completed = (await client.post(f"/{issued['media_id']}/complete", headers=own)).json()
    seen = (await client.get(f"/{issued['media_id']}?expires_in=60", headers=own)).json()
    assert (completed["expires_in"], seen["expires_in"]) == (3600, 60)
    async with httpx.AsyncClient() as s3:
        assert (await s3.get(seen["signed_url"])).content == VIDEO


async def test_a_page_with_only_an_upload_token_uploads_in_parts(client: httpx.AsyncClient) -> None:
    issued = await issued_for(client, size=len(FILE), resumable=True)
    media_id, own = issued["media_id"], bearing(issued["upload_token"])
    for number in (1, 2, 3):
        page = await client.get(f"/{media_id}/parts", headers=own)
        assert page.status_code == 200
        parts = page.json()["parts"]
        form = next(form for form in parts["forms"] if form["number"] == number)
        part = piece(FILE, number, parts["part_size"])
        async with httpx.AsyncClient() as s3:
            posted = await s3.post(parts["url"], data=parts["fields"] | form["fields"], files={"file": ("a", part)})
        assert posted.status_code == 201
    completed = await client.post(f"/{media_id}/complete", headers=own)
    assert (completed.status_code, completed.json()["size"]) == (200, len(FILE))
    assert completed.json()["signed_url"] is None
    again = await client.get(f"/{media_id}/parts", headers=own)
    assert again.status_code == (await client.get(f"/{media_id}/parts", headers=bearing(token("anna")))).status_code
    assert (await client.delete(f"/{media_id}", headers=own)).status_code == 403


async def test_the_token_of_an_upload_in_parts_lives_as_long_as_its_parts(
    client: httpx.AsyncClient, clock: Clock
) -> None:
    issued = await issued_for(client, size=len(FILE), resumable=True)
    clock.move(hours=20)
    page = await client.get(f"/{issued['media_id']}/parts", headers=bearing(issued["upload_token"]))
    assert (page.status_code, len(page.json()["parts"]["forms"])) == (200, 3)


@pytest.mark.parametrize("scope", ["media:upload", "media:*", ALL])
async def test_an_owner_is_named_only_with_the_permission(client: httpx.AsyncClient, scope: str) -> None:
    for owner in ("anna", "backend"):
        body = UPLOAD | {"owner": owner}
        answer = await client.post("/upload", json=body, headers=bearing(token("backend", scope)))
        assert (answer.status_code, answer.json()["type"]) == (403, "urn:s3-media:problem:permission-missing")
        assert 'scope="media:delegate"' in answer.headers["WWW-Authenticate"]
        assert await listed(client, owner) == []


async def test_a_delegate_needs_the_permission_to_upload_as_well(client: httpx.AsyncClient) -> None:
    headers = bearing(token("backend", "media:delegate"))
    answer = await client.post("/upload", json=UPLOAD | {"owner": "anna"}, headers=headers)
    assert answer.status_code == 403
    administrator = bearing(token("carla", "media:admin"))
    assert (await client.post("/upload", json=UPLOAD | {"owner": "anna"}, headers=administrator)).status_code == 201


@pytest.mark.parametrize(
    ("asked", "at"),
    [
        ({"owner": ""}, "body.owner"),
        ({"owner": " anna"}, "body.owner"),
        ({"owner": "a\tb"}, "body.owner"),
        ({"owner": "a" * 256}, "body.owner"),
        ({"owner": 7}, "body.owner"),
        ({"allow_link": True}, "body.allow_link"),
        ({"owner": "anna", "allow_link": "yes"}, "body.allow_link"),
    ],
)
async def test_an_invalid_owner_is_named(client: httpx.AsyncClient, asked: dict[str, Any], at: str) -> None:
    answer = await client.post("/upload", json=UPLOAD | asked, headers=BACKEND)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["at"] == at


async def test_a_key_on_behalf_belongs_to_the_backend(client: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "k"}
    own = await client.post("/upload", json=UPLOAD, headers=bearing(token("anna")) | key)
    body = UPLOAD | {"owner": "anna"}
    first, again = [(await client.post("/upload", json=body, headers=BACKEND | key)).json() for _ in range(2)]
    assert first["media_id"] == again["media_id"] != own.json()["media_id"]
    assert "upload_token" in again
    assert "upload_token" not in own.json()
    for other in ({"owner": "berta"}, {"owner": "anna", "allow_link": True}):
        reused = await client.post("/upload", json=UPLOAD | other, headers=BACKEND | key)
        assert (reused.status_code, reused.json()["type"]) == (422, "urn:s3-media:problem:idempotency-key-reused")
    for_itself = await client.post("/upload", json=UPLOAD, headers=BACKEND | key)
    another_backend = bearing(token("other backend", "media:upload media:delegate"))
    assert (await client.post("/upload", json=body, headers=another_backend | key)).json()["media_id"] not in {
        first["media_id"],
        own.json()["media_id"],
        for_itself.json()["media_id"],
    }


async def test_the_limit_of_uploads_counts_the_owner_and_not_the_backend(tmp_path: Path) -> None:
    async with client_of(create_app(settings_of(tmp_path, rate_limit_issue="2/hour"))) as client:
        client.base_url = httpx.URL(f"http://broker.example{PREFIX}")
        for owner in ("anna", "berta", "carla"):
            statuses = [
                (await client.post("/upload", json=UPLOAD | {"owner": owner}, headers=BACKEND)).status_code
                for _ in range(3)
            ]
            assert statuses == [201, 201, 429]
        own = [(await client.post("/upload", json=UPLOAD, headers=BACKEND)).status_code for _ in range(3)]
        assert own == [201, 201, 429]


async def test_the_limits_count_an_upload_token_by_its_media(tmp_path: Path) -> None:
    async with client_of(create_app(settings_of(tmp_path, rate_limit_playback="2/hour"))) as client:
        client.base_url = httpx.URL(f"http://broker.example{PREFIX}")
        for issued in (await issued_for(client), await issued_for(client)):
            own = bearing(issued["upload_token"])
            statuses = [(await client.get(f"/{issued['media_id']}", headers=own)).status_code for _ in range(3)]
            assert statuses == [409, 409, 429]
        assert (await client.get("/", headers=bearing(token("anna")))).status_code == 200


async def test_the_quota_of_the_owner_holds_for_uploads_on_behalf(tmp_path: Path) -> None:
    async with client_of(create_app(settings_of(tmp_path, quota_pending_count=1))) as client:
        client.base_url = httpx.URL(f"http://broker.example{PREFIX}")
        for owner in ("anna", "berta"):
            await issued_for(client, owner)
            full = await client.post("/upload", json=UPLOAD | {"owner": owner}, headers=BACKEND)
            assert full.json()["type"] == "urn:s3-media:problem:quota-exceeded"


def tokens(secret: str = SECRET, clock: Any = utc_now) -> UploadTokens:
    return UploadTokens(secret, clock)


def test_no_other_token_counts() -> None:
    made = tokens().make(uuid4(), utc_now())
    other = tokens().make(uuid4(), utc_now())
    payload, _, signature = made.removeprefix("s3mu_").partition(".")
    forged = [
        "s3mu_",
        "s3mu_" + payload,
        f"s3mu_{payload}.",
        f"s3mu_{payload}.{signature[:-1]}",
        f"s3mu_{payload}.{other.rpartition('.')[2]}",
        f"s3mu_{other.removeprefix('s3mu_').partition('.')[0]}.{signature}",
        made.replace("s3mu_", "s3mu_s3mu_"),
        tokens("another secret that is long enough for all of this").make(uuid4(), utc_now()),
        "s3mu_" + "a" * 100_000,
        "s3mu_é.é",
    ]
    for each in forged:
        with pytest.raises(NotAuthenticated):
            tokens().caller(each)


async def test_the_state_of_a_form_and_an_upload_token_are_not_exchangeable(client: httpx.AsyncClient) -> None:
    issued = await issued_for(client)
    bare = issued["upload_token"].removeprefix("s3mu_")
    assert (await client.get(f"/{issued['media_id']}/uploaded/{bare}")).status_code == 404
    for wrong in (bare, f"s3mu_{bare[:-2]}"):
        assert (await client.get(f"/{issued['media_id']}", headers=bearing(wrong))).status_code == 401


def test_a_log_never_holds_a_token() -> None:
    made = tokens().make(uuid4(), utc_now())
    redact = Redact()
    assert redact(None, "info", {"event": f"got {made}!", "upload_token": made, "x": [{"y": made}]}) == {
        "event": f"got {REDACTED}!",
        "upload_token": REDACTED,
        "x": [{"y": REDACTED}],
    }
    assert re.fullmatch(r"s3mu_[\w.-]+", made)
