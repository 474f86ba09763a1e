"""The ways of a request to its endpoint over a small router: FastAPI's own, the fast path, and a host's gate."""

from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import UUID

import httpx
import pytest
from fastapi import APIRouter, Body, Depends, FastAPI, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, field_validator
from starlette.types import Receive, Scope, Send

from broker.api.asgi.body import ARRIVED_BODY
from broker.api.asgi.demands import AddressDemand, TokenDemand
from broker.api.asgi.fast_path import FastPath
from broker.api.asgi.route import ProblemRoute, build_handlers
from broker.api.auth.caller import Caller
from broker.api.limits.limits import Limits
from broker.api.state import STATE_NAME
from broker.domain.access.rate import Rate
from broker.errors import MediaNotFound
from tests.api.services import services_of
from tests.support.serving import bearing, token

ID = "01980f2c-6b1e-7c3a-9d52-0f6a4f1be7a3"
Reader = Annotated[Caller, Depends(TokenDemand("media:read", "playback"))]


class Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = "none"
    sizes: dict[str, int] = Field(default_factory=dict)

    @field_validator("name")
    @classmethod
    def lower(cls, name: str) -> str:
        if name != name.lower():
            raise ValueError("should be in lower case")
        return name


def seven() -> int:
    return 7


def router_of(calls: list[dict[str, Any]]) -> APIRouter:
    router = APIRouter(route_class=ProblemRoute)

    def answer(**arguments: Any) -> Response:
        calls.append(arguments)
        return JSONResponse(sorted(arguments))

    @router.get("/{media_id}/parts")
    async def parts(
        media_id: UUID,
        caller: Reader,
        after: Annotated[int, Query(ge=0, alias="after-part")] = 0,
        key: Annotated[str | None, Header(alias="Idempotency-Key")] = None,
    ) -> Response:
        return answer(media_id=media_id, caller=caller, after=after, key=key)

    @router.get("/optional")
    async def optional(after: int = 7, key: Annotated[str, Header(alias="x-key")] = "none") -> Response:
        return answer(after=after, key=key)

    @router.get("/given")
    async def given(value: Annotated[int, Depends(seven)], caller: Reader) -> Response:
        return answer(value=value, caller=caller)

    @router.post("/body")
    async def body(request: Request, asked: Annotated[Asked, Body()]) -> Response:
        return answer(request=request, asked=asked)

    @router.get("/required")
    async def required(name: str) -> Response:
        return answer(name=name)

    @router.api_route("/verbs", methods=["GET", "DELETE"], dependencies=[Depends(AddressDemand("health"))])
    async def verbs() -> Response:
        return answer()

    @router.get("/fails/{how}")
    async def fails(how: str) -> Response:
        raise {"known": MediaNotFound(), "unknown": KeyError("secret")}[how]

    @router.get("/{media_id}/{part}")
    async def part(media_id: str, part: str) -> Response:
        return answer(media_id=media_id, part=part)

    @router.get("/{media_id}")
    async def view(media_id: UUID) -> Response:
        return answer(media_id=media_id)

    return router


class Application:
    """A broker's router in a FastAPI application, which is asked on the fast path or on FastAPI's own."""

    def __init__(self, *, fast: bool = True, **options: Any) -> None:
        self.calls: list[dict[str, Any]] = []
        self.passed: list[str] = []
        self.app = FastAPI(**options.pop("app", {}))
        self.app.include_router(router_of(self.calls), prefix="/v1", **options)
        self.services = services_of()
        self.way: Any = FastPath(self._noting, "/v1", self.app.routes) if fast else self._noting

    async def _noting(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.passed.append(scope["path"])
        await self.app(scope, receive, send)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = {STATE_NAME: self.services}
        await self.way(scope, receive, send)

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        transport = httpx.ASGITransport(app=self, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://broker.example") as client:
            return await client.request(method, path, **options)


@pytest.fixture(params=[True, False], ids=["fast", "fastapi"])
def application(request: pytest.FixtureRequest) -> Application:
    return Application(fast=request.param)


@pytest.mark.parametrize(
    ("method", "path", "is_fast"),
    [
        ("GET", "/v1/optional", True),
        ("GET", "/v1/verbs", True),
        ("DELETE", "/v1/verbs", True),
        ("GET", f"/v1/{ID}", True),
        ("GET", f"/v1/{ID}/parts", True),
        ("POST", "/v1/optional", False),
        ("GET", f"/v1/{ID}/", False),
        ("GET", f"/v1/{ID}/7", False),
        ("GET", f"/v1/{ID}/{{part}}", False),
        ("GET", "/v1/fails/{how}", False),
        ("GET", "/v1/7", False),
        ("GET", "/v1", False),
        ("GET", "/v1x/optional", False),
        ("GET", "/optional", False),
    ],
)
async def test_a_route_is_found_in_a_table_or_left_to_fastapi(method: str, path: str, is_fast: bool) -> None:
    application = Application()
    await application.ask(method, path)
    assert application.passed == ([] if is_fast else [path])


@pytest.mark.parametrize("change", [{"root_path": "/api"}, {"type": "websocket"}], ids=str)
async def test_a_mounted_application_and_websockets_take_the_way_of_fastapi(change: dict[str, str]) -> None:
    passed: list[Any] = []

    async def app(*arguments: Any) -> None:
        passed.append(arguments)

    receive, send = Any, object()
    scope = {"type": "http", "method": "GET", "path": "/v1/optional", "headers": [], **change}
    await FastPath(app, "/v1", Application().app.routes)(scope, receive, send)  # type: ignore[arg-type]
    assert passed == [(scope, receive, send)]


async def test_the_fast_path_names_its_route() -> None:
    application = Application()
    seen: list[Scope] = []

    async def noting(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await application(scope, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=noting), base_url="http://b") as client:
        await client.get(f"/v1/{ID}")
        await client.get("/v1/optional")
    assert [scope["route"].path for scope in seen] == ["/{media_id}", "/optional"]
    assert [scope["path_params"] for scope in seen] == [{"media_id": ID}, {}]


async def test_arguments_come_from_path_query_headers_and_the_token(application: Application) -> None:
    headers = [("Idempotency-Key", "é"), ("Idempotency-Key", "2"), *bearing(token("anna")).items()]
    raw = [(name, value.encode("latin-1")) for name, value in headers]
    answer = await application.ask("GET", f"/v1/{ID}/parts?after-part=3&other=4", headers=raw)
    assert answer.status_code == 200
    (call,) = application.calls
    assert call.pop("caller").owner == "anna"
    assert call == {"media_id": UUID(ID), "after": 3, "key": "é"}


@pytest.mark.parametrize(
    ("query", "headers", "expected"),
    [
        ("", {}, {"after": 7, "key": "none"}),
        ("?after=1", {}, {"after": 1, "key": "none"}),
        ("?other=1", {}, {"after": 7, "key": "none"}),
        ("", {"X-Key": "k"}, {"after": 7, "key": "k"}),
        ("?key=k", {"after": "1"}, {"after": 7, "key": "none"}),
    ],
)
async def test_what_is_not_sent_has_its_default(
    query: str, headers: dict[str, str], expected: dict[str, Any], application: Application
) -> None:
    for _ in range(2):
        assert (await application.ask("GET", f"/v1/optional{query}", headers=headers)).status_code == 200
    assert application.calls == [expected, expected]
    assert application.calls[0] is not application.calls[1]


JSON = {"Content-Type": "application/json"}
NOT_JSON = [{"at": "body", "problem": "should be sent as application/json"}]


@pytest.mark.parametrize(
    ("method", "path", "options", "errors"),
    [
        ("GET", "/required", {}, [{"at": "query.name", "problem": "Field required"}]),
        (
            "GET",
            f"/{ID}/parts?after-part=-1",
            {},
            [{"at": "query.after-part", "problem": "Input should be greater than or equal to 0"}],
        ),
        ("POST", "/body", {"content": b"{}"}, NOT_JSON),
        ("POST", "/body", {"content": b"{}", "headers": {"Content-Type": "text/json"}}, NOT_JSON),
        ("POST", "/body", {"content": b"{}", "headers": {"Content-Type": "image/a+json"}}, NOT_JSON),
        ("POST", "/body", {"content": b"{}", "headers": {"Content-Type": "application/a"}}, NOT_JSON),
        (
            "POST",
            "/body",
            {"json": {"name": "A", "sizes": {"a": "x"}}},
            [
                {"at": "body.name", "problem": "should be in lower case"},
                {
                    "at": "body.sizes.a",
                    "problem": "Input should be a valid integer, unable to parse string as an integer",
                },
            ],
        ),
        (
            "POST",
            "/body",
            {"json": {"x" * 150: 1}},
            [{"at": f"body.{'x' * 100}", "problem": "Extra inputs are not permitted"}],
        ),
    ],
)
async def test_an_invalid_request_is_refused_by_place(
    method: str, path: str, options: dict[str, Any], errors: list[Any], application: Application
) -> None:
    options["headers"] = {**options.get("headers", {}), **bearing(token("anna"))}
    answer = await application.ask(method, f"/v1{path}", **options)
    problem = answer.json()
    assert (answer.status_code, problem["errors"]) == (422, errors)
    assert problem["detail"] == (
        "The request is not valid: " + "; ".join(f"{each['at']}: {each['problem']}" for each in errors) + "."
    )
    assert not application.calls


async def test_an_invalid_id_is_refused_by_its_place_in_the_path(application: Application) -> None:
    answer = await application.ask("GET", f"/v1/{'x' * 36}/parts", headers=bearing(token("anna")))
    assert (answer.status_code, [each["at"] for each in answer.json()["errors"]]) == (422, ["path.media_id"])


@pytest.mark.parametrize(("count", "more"), [(20, ""), (21, "; and 1 more"), (25, "; and 5 more")])
async def test_twenty_errors_are_named(count: int, more: str) -> None:
    sizes = {f"a{number}": "x" for number in range(count)}
    problem = (await Application().ask("POST", "/v1/body", json={"sizes": sizes})).json()
    assert [each["at"] for each in problem["errors"]] == [f"body.sizes.a{number}" for number in range(20)]
    said = "Input should be a valid integer, unable to parse string as an integer"
    named = "; ".join(f"body.sizes.a{number}: {said}" for number in range(20))
    assert problem["detail"] == f"The request is not valid: {named}{more}."


@pytest.mark.parametrize(
    "kind",
    ["application/json", "Application/JSON ; charset=utf-8", "application/merge-patch+json", "application/a+JSON"],
)
async def test_a_body_is_json_of_any_kind(kind: str, application: Application) -> None:
    answer = await application.ask("POST", "/v1/body", content=b'{"name": "a"}', headers={"Content-Type": kind})
    assert answer.status_code == 200
    ((_, asked), (_, request)) = sorted(application.calls[0].items())
    assert (asked, request.url.path) == (Asked(name="a"), "/v1/body")


async def test_a_body_that_is_announced_as_too_large_is_not_read(application: Application) -> None:
    answer = await application.ask("POST", "/v1/body", content=b"x" * 70_000, headers=JSON)
    assert (answer.status_code, answer.json()["max_size"]) == (413, 65_536)


async def test_the_limit_is_told_on_each_answer_and_a_refusal(application: Application) -> None:
    application.services = services_of()
    answers = [await application.ask("GET", "/v1/verbs") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers.get("ratelimit") for answer in answers] == ['"health";r=1', '"health";r=0', '"health";r=0']
    assert [answer.headers["content-type"] for answer in answers] == [
        "application/json",
        "application/json",
        "application/problem+json",
    ]
    unlimited = await application.ask("GET", "/v1/optional")
    assert "ratelimit" not in unlimited.headers


async def test_a_refusal_after_the_limit_tells_what_is_left(application: Application) -> None:
    application.services = services_of()
    answer = await application.ask("GET", "/v1/not-an-id-of-a-media-of-any-length-1/parts", headers=bearing(token()))
    assert (answer.status_code, answer.headers["ratelimit"]) == (422, '"playback";r=1')


@pytest.mark.parametrize("how", ["known", "unknown"])
async def test_an_error_becomes_a_problem(how: str, application: Application) -> None:
    answer = await application.ask("GET", f"/v1/fails/{how}")
    kind = {"known": "media-not-found", "unknown": "internal"}[how]
    assert answer.json()["type"] == f"urn:s3-media:problem:{kind}"
    assert "secret" not in answer.text


async def test_an_unexpected_error_reaches_the_server(application: Application) -> None:
    transport = httpx.ASGITransport(app=application)
    async with httpx.AsyncClient(transport=transport, base_url="http://broker.example") as client:
        with pytest.raises(KeyError, match="secret"):
            await client.get("/v1/fails/unknown")


async def test_the_value_of_a_dependency_is_an_argument(application: Application) -> None:
    assert (await application.ask("GET", "/v1/given", headers=bearing(token("anna")))).status_code == 200
    assert (application.calls[0]["value"], application.calls[0]["caller"].owner) == (7, "anna")


async def test_a_host_answers_its_own_errors() -> None:
    async def teapot(request: Request, error: Exception) -> Response:
        return Response(status_code=418)

    application = Application(fast=False, app={"exception_handlers": {KeyError: teapot}})
    assert (await application.ask("GET", "/v1/fails/unknown")).status_code == 418


async def test_a_hosts_dependency_runs_before_the_demands_and_may_read_the_body() -> None:
    seen: list[bytes] = []

    async def gate(request: Request, nested: Annotated[int, Depends(seven)]) -> AsyncIterator[None]:
        assert nested == 7
        request.scope["extensions"] = {ARRIVED_BODY: lambda _: pytest.fail("the server no longer has the body")}
        seen.append(await request.body())
        yield

    application = Application(dependencies=[Depends(gate)])
    answer = await application.ask("POST", "/v1/body", content=b'{"name": "a"}', headers=JSON)
    assert (answer.status_code, application.calls[0]["asked"]) == (200, Asked(name="a"))
    assert seen == [b'{"name": "a"}']
    assert application.passed == ["/v1/body"]
    limited = [(await application.ask("GET", "/v1/verbs")).status_code for _ in range(3)]
    assert limited == [200, 200, 429]


async def test_an_override_takes_the_place_of_a_hosts_dependency() -> None:
    async def closed() -> None:
        raise MediaNotFound

    application = Application(dependencies=[Depends(closed)])
    application.app.dependency_overrides[closed] = lambda: None
    assert (await application.ask("GET", "/v1/optional")).status_code == 200


class Closed:
    def __call__(self, body: Annotated[dict[str, int], Body()]) -> None:
        """Read a body."""


async def reads_a_body(body: Annotated[dict[str, int], Body()]) -> None:
    """Read a body."""


async def needs_a_body(nested: Annotated[None, Depends(reads_a_body)]) -> None:
    """Depend on what reads a body."""


async def needs_a_demand(caller: Reader) -> None:
    """Depend on a demand."""


HERE = "tests.api.test_fast_path"
BODY = (
    "cannot be a dependency of the broker's routes: {} declares a body parameter, and a route's body is read after its "
    "dependencies. Take the Request and read it there."
)


@pytest.mark.parametrize(
    ("dependency", "message"),
    [
        (reads_a_body, f"{HERE}.reads_a_body {BODY.format(f'{HERE}.reads_a_body')}"),
        (needs_a_body, f"{HERE}.needs_a_body {BODY.format(f'{HERE}.reads_a_body')}"),
        (Closed(), f"{HERE}.Closed {BODY.format(f'{HERE}.Closed')}"),
        (
            needs_a_demand,
            f"{HERE}.needs_a_demand cannot be a dependency of the broker's routes: it depends on "
            "broker.api.asgi.demands.TokenDemand, and the broker meets its own demands after the host's dependencies.",
        ),
    ],
)
def test_a_dependency_that_no_route_can_run_is_refused_by_its_name(dependency: Any, message: str) -> None:
    app = FastAPI()
    app.include_router(router_of([]), dependencies=[Depends(dependency)])
    with pytest.raises(TypeError) as refused:
        build_handlers(app.routes)
    assert str(refused.value) == message


async def test_limits_that_are_off_say_nothing(application: Application) -> None:
    application.services = services_of()
    object.__setattr__(application.services, "limits", Limits({"delete": Rate(1, 60)}))
    assert "ratelimit" not in (await application.ask("GET", "/v1/verbs")).headers
