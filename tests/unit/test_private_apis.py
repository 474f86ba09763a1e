"""The private parts of dependencies that the broker uses: each is there, by the name and in the form that it needs.

A release that changes one fails here by that name, before anything else behaves strangely.
"""

import asyncio
import inspect
from typing import Any

import fastapi.dependencies.models
import fastapi.routing
import jwt
import jwt.utils
import prometheus_client.values
import pydantic
import pytest
import sqlalchemy as sa
import uvicorn
from botocore.credentials import RefreshableCredentials
from fastapi import APIRouter, FastAPI, Response
from sqlalchemy.dialects import postgresql, sqlite
from uvicorn.protocols.http import flow_control, httptools_impl
from uvicorn.server import ServerState

OVERRIDDEN = (
    "connection_made",
    "connection_lost",
    "data_received",
    "on_headers_complete",
    "on_message_complete",
    "on_response_complete",
    "shutdown",
    "send_400_response",
    "_unsupported_upgrade_warning",
)
"""The methods of uvicorn's connection that the broker's overrides."""
OF_A_CONNECTION = ("app_state", "cycle", "flow", "headers", "loop", "pipeline", "scope", "timeout_keep_alive", "url")
OF_A_CYCLE = (
    "body",
    "default_headers",
    "disconnected",
    "keep_alive",
    "message_event",
    "more_body",
    "on_response",
    "receive",
    "response_complete",
    "response_started",
    "scope",
    "send",
    "waiting_for_100_continue",
)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        *((httptools_impl.HttpToolsProtocol, name) for name in OVERRIDDEN),
        (httptools_impl, "STATUS_LINE"),
        (flow_control.FlowControl, "resume_reading"),
        (flow_control.FlowControl, "pause_reading"),
        (fastapi.routing, "_effective_route_context_var"),
        (fastapi.routing, "get_request_handler"),
        (fastapi.routing, "iter_route_contexts"),
        (fastapi.routing.APIRoute, "get_route_handler"),
        (jwt.PyJWT, "_decode_payload"),
        (jwt.utils, "base64url_decode"),
        (prometheus_client.values, "ValueClass"),
    ],
)
def test_a_name_is_there(owner: Any, name: str) -> None:
    assert hasattr(owner, name), f"{owner.__name__} has no {name}"


class Transport(asyncio.Transport):
    """Take what is written."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Forget it."""

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default


async def test_a_connection_of_uvicorn_holds_what_the_broker_reads_and_writes() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    config = uvicorn.Config(app, log_config=None)
    config.load()
    state = ServerState()
    connection = httptools_impl.HttpToolsProtocol(config, state, app_state={})
    connection.connection_made(Transport())
    connection.data_received(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n")
    for name in OF_A_CONNECTION:
        assert hasattr(connection, name), f"HttpToolsProtocol has no {name}"
    for name in OF_A_CYCLE:
        assert hasattr(connection.cycle, name), f"RequestResponseCycle has no {name}"
    assert hasattr(state, "total_requests")
    assert hasattr(connection.flow, "write_paused")
    assert isinstance(connection.cycle.body, bytearray)
    assert connection.cycle.more_body
    assert httptools_impl.STATUS_LINE[201].startswith(b"HTTP/1.1 201 ")


def test_fastapi_names_the_inclusion_of_a_route_while_it_builds_its_handler() -> None:
    seen = []

    class Route(fastapi.routing.APIRoute):
        def get_route_handler(self) -> Any:
            seen.append(fastapi.routing._effective_route_context_var.get())
            return super().get_route_handler()

    def gate() -> None: ...

    router, app = APIRouter(route_class=Route), FastAPI()
    router.add_api_route("/", lambda: None)
    app.include_router(router, prefix="/inside", dependencies=[fastapi.Depends(gate)])
    contexts = [each for each in fastapi.routing.iter_route_contexts(app.routes) if each.path == "/inside/"]
    assert len(contexts) == 1
    assert isinstance(contexts[0].original_route, Route)
    assert contexts[0].methods == {"GET"}
    assert contexts[0].dependant.dependencies[0].call is gate
    by_itself, inclusion = seen
    assert by_itself is None
    assert inclusion is not None
    assert inclusion.original_route is contexts[0].original_route
    assert inclusion.dependant.dependencies[0].call is gate
    assert inclusion.dependency_overrides_provider is app


def test_a_dependant_of_fastapi_holds_what_the_broker_reads() -> None:
    dependant = fastapi.dependencies.models.Dependant()
    names = "body_params call dependencies header_params name path path_params query_params request_param_name"
    for name in names.split():
        assert hasattr(dependant, name), f"Dependant has no {name}"
    taken = inspect.signature(fastapi.routing.get_request_handler).parameters
    assert {"dependant", "body_field", "dependency_overrides_provider"} <= taken.keys()


def test_a_response_of_starlette_is_made_of_what_a_document_sets() -> None:
    response = Response(b"{}", 201, {"x-name": "value"})
    assert response.body == b"{}"
    assert response.status_code == 201
    assert response.background is None
    assert (b"x-name", b"value") in response.raw_headers
    assert (b"content-length", b"2") in response.raw_headers


def test_pydantic_hands_out_what_it_compiled() -> None:
    model = pydantic.create_model("Model", number=(int, ...))
    adapter = pydantic.TypeAdapter(model)
    assert adapter.validator.validate_python({"number": "1"}).__dict__ == {"number": 1}
    assert pydantic.TypeAdapter(int).validator.validate_json(b"1") == 1
    assert adapter.serializer.to_json(model(number=1)) == b'{"number":1}'


@pytest.mark.parametrize("dialect", [sqlite.dialect(), postgresql.dialect()], ids=lambda each: each.name)  # type: ignore[no-untyped-call]
def test_a_compiled_statement_of_sqlalchemy_holds_what_is_prepared(dialect: Any) -> None:
    table = sa.Table("numbers", sa.MetaData(), sa.Column("number", sa.Integer), sa.Column("at", sa.DateTime))
    compiled: Any = table.insert().values(number=sa.bindparam("number"), at=sa.bindparam("at")).compile(dialect=dialect)
    assert set(compiled.binds) == {"number", "at"}
    assert compiled.string.count(" VALUES ") == 1
    assert hasattr(compiled, "positiontup")
    for bind in compiled.binds.values():
        assert hasattr(bind.type.dialect_impl(dialect), "bind_processor")


def test_credentials_of_botocore_say_when_they_expire() -> None:
    assert "_expiry_time" in inspect.getsource(RefreshableCredentials.__init__)


def test_the_values_of_prometheus_are_of_one_of_two_classes() -> None:
    assert prometheus_client.values.ValueClass.__name__ in ("MutexValue", "MmapedValue")


def test_pyjwt_calls_the_decoder_of_the_payload() -> None:
    decoded = []

    class Watched(jwt.PyJWT):
        def _decode_payload(self, decoded_token: dict[str, Any]) -> Any:
            decoded.append(decoded_token["payload"])
            return super()._decode_payload(decoded_token)

    key = "a key of the tests, of more than 32 bytes"
    Watched().decode(jwt.encode({"sub": "ann"}, key, "HS256"), key, algorithms=["HS256"])
    assert decoded == [b'{"sub":"ann"}']
