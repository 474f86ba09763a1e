"""The broker with one of its shortcuts replaced by the plain form: `python -m tests.bench.plain NAME serve …`.

`tests.bench.ablation` starts these. A replacement that no longer has a place to go fails at once, by its name.
"""

import hmac
import json
import os
import sys
from base64 import b64encode
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import solve_dependencies
from starlette.types import Scope

import broker.app
from broker.api.asgi import body, demands, parameters, route
from broker.api.asgi.body import ARRIVED_BODY, read_body
from broker.api.asgi.document import AT_ONCE, Document
from broker.api.problems import NO_STORE
from broker.api.routes import media as media_routes
from broker.app import Application
from broker.aws import bucket
from broker.aws.bucket import Bucket
from broker.cli.commands import app as broker_command
from broker.domain import ids, sigv4
from broker.domain.policy import Promise
from broker.domain.sigv4 import Credentials
from broker.lifecycle.verbs import Issued, Lifecycle, UploadRequest
from broker.server import serve
from broker.server.connections import BoundedConnection
from broker.store import outbox, writes
from broker.store.prepared import Prepared


def _replace(owner: Any, name: str, plain: Any) -> None:
    if not hasattr(owner, name):
        raise SystemExit(f"{getattr(owner, '__name__', owner)} has no {name} that could be replaced")
    setattr(owner, name, plain)


def short_route() -> None:
    """Find each route by FastAPI's own routing."""
    _replace(broker.app, "ShortWay", lambda app, prefix, routes: app)


class _FastAPIParameters:
    """Read the arguments of an endpoint by FastAPI's own code."""

    def __init__(self, dependant: Dependant) -> None:
        self._dependant = Dependant(
            path_params=dependant.path_params,
            query_params=dependant.query_params,
            header_params=dependant.header_params,
            body_params=dependant.body_params,
            request_param_name=dependant.request_param_name,
        )
        self._names = [each.name for each in dependant.dependencies if each.name]

    async def read(self, request: Request, caller: object) -> dict[str, Any]:
        body = json.loads(await read_body(request)) if self._dependant.body_params else None
        async with AsyncExitStack() as stack:
            for name in ("fastapi_inner_astack", "fastapi_function_astack"):
                request.scope.setdefault(name, stack)
            solved = await solve_dependencies(
                request=request, dependant=self._dependant, body=body, async_exit_stack=stack, embed_body_fields=False
            )
        assert not solved.errors, solved.errors
        return {**solved.values, **dict.fromkeys(self._names, caller)}


def own_parameters() -> None:
    """Read arguments by FastAPI's own code."""
    _replace(route, "Parameters", _FastAPIParameters)


def _without_extension(name: str) -> None:
    offering = BoundedConnection.on_headers_complete

    def on_headers_complete(self: BoundedConnection) -> None:
        offering(self)
        del self.scope["extensions"][name]

    _replace(BoundedConnection, "on_headers_complete", on_headers_complete)


def one_write() -> None:
    """Send a response as ASGI's two messages."""
    _without_extension(AT_ONCE)


def arrived_body() -> None:
    """Receive a body by ASGI's messages, with a timer."""
    _without_extension(ARRIVED_BODY)


def document() -> None:
    """Build a response by Starlette's own constructor."""

    def __init__(self: Document, document: bytes, status_code: int = 200) -> None:  # noqa: N807
        Response.__init__(self, document, status_code, NO_STORE, "application/json")

    _replace(Document, "__init__", __init__)


def field_index() -> None:
    """Search the list of headers for each field."""

    def field_of(scope: Scope, name: bytes) -> bytes | None:
        return next((value for field, value in scope["headers"] if field == name), None)

    def is_repeated(scope: Scope, name: bytes) -> bool:
        return sum(field == name for field, _ in scope["headers"]) > 1

    for module in (body, demands, parameters, media_routes):
        _replace(module, "field_of", field_of)
    _replace(demands, "is_repeated", is_repeated)
    _replace(route, "index_fields", lambda scope: None)


def at_once() -> None:
    """Lock what owners use, reckon, insert and update: four statements a batch, on PostgreSQL as on SQLite."""
    _replace(writes, "_added_at_once", lambda connection, adds: False)


class _PlainInsert:
    def __init__(self, insert: Any) -> None:
        self._table, self._names = insert._table, insert._names

    def run(self, connection: sa.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        if rows:
            connection.execute(self._table.insert(), [dict(zip(self._names, row, strict=True)) for row in rows])


def prepared() -> None:
    """Insert and update many rows by SQLAlchemy's own executemany."""

    def run(self: Prepared, connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
        if not rows:
            return
        statement: Any = self._statement
        if isinstance(statement, sa.Update):
            names = {column.name for column in statement._values or ()}
            keys = names | (rows[0].keys() - set(statement.table.c.keys()))
            plain = sa.update(statement.table).where(*statement._where_criteria)
            connection.execute(plain, [{key: row[key] for key in keys} for row in rows])
        else:
            connection.execute(statement, rows)

    _replace(Prepared, "run", run)
    for module in (writes, outbox):
        _replace(module, "_INSERT", _PlainInsert(module._INSERT))
    at_once()


def own_hmac() -> None:
    """Compute each HMAC by the standard library."""

    @lru_cache(maxsize=256)
    def signer(secret_key: str, day: Any, region: str) -> Callable[[bytes], str]:
        key = f"AWS4{secret_key}".encode()
        for part in (sigv4._digits(day), region, "s3", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        return lambda text: hmac.digest(key, text, "sha256").hex()

    _replace(sigv4, "_signer", signer)


def own_dates() -> None:
    """Write instants by strftime."""
    _replace(sigv4, "instant", lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%SZ"))
    _replace(sigv4, "amz_date", lambda now: now.strftime("%Y%m%dT%H%M%SZ"))


def url_cache() -> None:
    """Percent-encode each part of a URL anew."""
    _replace(sigv4, "_uri_encode_again", sigv4.uri_encode)

    class Nothing:
        @staticmethod
        def fullmatch(text: str) -> None:
            return None

    _replace(sigv4, "_PLAIN_PATH", Nothing)


def random_pool() -> None:
    """Ask the system for the random part of each id."""
    _replace(ids, "_ten_random_bytes", lambda: os.urandom(10))


def verbs() -> None:
    """Write the verbs that hand on a coroutine as coroutines of their own."""

    async def issue(
        self: Lifecycle,
        asked: UploadRequest,
        owner: str,
        *,
        idempotency_key: str | None = None,
        uploaded_url: Callable[[UUID], str] | None = None,
    ) -> Issued:
        if idempotency_key is None:
            return await self._issue(asked, owner, None, uploaded_url)
        return await self._issue_once(asked, owner, idempotency_key, uploaded_url)

    async def credentials(self: Bucket, now: datetime) -> Credentials:
        return await self._credentials.current(now)

    _replace(Lifecycle, "issue", issue)
    _replace(Bucket, "credentials", credentials)


def policy_json() -> None:
    """Write the policy by json.dumps."""

    def presign_post(
        promise: Promise, credentials: Credentials, *, now: datetime, region: str, expires_in: int
    ) -> dict[str, str]:
        fields = promise.exact_fields()
        common = {
            "x-amz-algorithm": sigv4.ALGORITHM,
            "x-amz-credential": f"{credentials.access_key}/{sigv4.scope(now.date(), region)}",
            "x-amz-date": sigv4.amz_date(now),
        }
        if credentials.session_token is not None:
            common["x-amz-security-token"] = credentials.session_token
        exact = {"bucket": promise.bucket, "key": promise.key, **common}
        conditions = [
            *({name: value} for name, value in fields.items()),
            ["content-length-range", promise.min_size, promise.max_size],
            *({name: value} for name, value in exact.items()),
        ]
        ends_at = sigv4.instant(now + timedelta(seconds=expires_in))
        policy = b64encode(json.dumps({"expiration": ends_at, "conditions": conditions}).encode()).decode()
        signature = sigv4.sign(credentials.secret_key, now, region, policy)
        return {**fields, "key": promise.key, **common, "policy": policy, "x-amz-signature": signature}

    _replace(bucket, "presign_post", presign_post)


def gc_rest() -> None:
    """Leave Python's garbage collector as it is."""
    _replace(serve, "_quiet", lambda app: app)


def application_call() -> None:
    """Enter the application by FastAPI's own __call__."""
    _replace(Application, "__call__", Application.__mro__[1].__call__)


def telemetry() -> None:
    """Enter the application by FastAPI's own __call__, and let it look for OpenTelemetry at each request."""
    application_call()
    _replace(broker.app, "NO_TELEMETRY", None)


def as_it_is() -> None:
    """Replace nothing."""


VARIANTS: dict[str, Callable[[], None]] = {
    variant.__name__: variant
    for variant in (
        as_it_is,
        short_route,
        own_parameters,
        one_write,
        arrived_body,
        document,
        field_index,
        at_once,
        prepared,
        own_hmac,
        own_dates,
        url_cache,
        random_pool,
        verbs,
        policy_json,
        gc_rest,
        application_call,
        telemetry,
    )
}


if __name__ == "__main__":
    VARIANTS[sys.argv.pop(1)]()
    broker_command()
