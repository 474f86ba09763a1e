"""The plain forms of the broker's shortcuts: each replaces one of them for as long as a `with` block lasts.

`tests.bench.ablation` measures a shortcut by its plain form. A replacement whose place is gone fails at once, by name.
Shortcuts that were removed are not here; their figures stand in this directory's README.
"""

import gc
import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, contextmanager
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import sqlalchemy as sa
from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import solve_dependencies

import broker.app
from broker.api.asgi import route
from broker.api.asgi.body import ARRIVED_BODY, read_body
from broker.api.asgi.document import AT_ONCE, Document
from broker.api.problems import NO_STORE
from broker.aws import bucket
from broker.domain.s3 import sigv4
from broker.domain.s3.policy import Promise
from broker.domain.s3.sigv4 import Credentials
from broker.server.connections import BoundedConnection
from broker.server.serve import GC_THRESHOLDS
from broker.store import outbox, reads, writes
from broker.store.prepared import Prepared
from broker.store.rows import COLUMNS
from broker.store.schema import media


@contextmanager
def as_it_is() -> Iterator[None]:
    """Replace nothing: a row that shows how far the figures can be trusted."""
    yield


def fast_path() -> AbstractContextManager[Any]:
    """Find each route by FastAPI's own routing."""
    return patch.object(broker.app, "FastPath", lambda app, prefix, routes: app)


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
        document = json.loads(await read_body(request)) if self._dependant.body_params else None
        async with AsyncExitStack() as stack:
            for name in ("fastapi_inner_astack", "fastapi_function_astack"):
                request.scope.setdefault(name, stack)
            solved = await solve_dependencies(
                request=request,
                dependant=self._dependant,
                body=document,
                async_exit_stack=stack,
                embed_body_fields=False,
            )
        assert not solved.errors, solved.errors
        return {**solved.values, **dict.fromkeys(self._names, caller)}


def own_parameters() -> AbstractContextManager[Any]:
    """Read arguments by FastAPI's own code."""
    return patch.object(route, "Parameters", _FastAPIParameters)


def _without_extension(name: str) -> AbstractContextManager[Any]:
    offering = BoundedConnection.on_headers_complete

    def on_headers_complete(self: BoundedConnection) -> None:
        offering(self)
        self.scope["extensions"].pop(name, None)

    return patch.object(BoundedConnection, "on_headers_complete", on_headers_complete)


def one_write() -> AbstractContextManager[Any]:
    """Send a response as ASGI's two messages."""
    return _without_extension(AT_ONCE)


def arrived_body() -> AbstractContextManager[Any]:
    """Receive a body by ASGI's messages, with a timer."""
    return _without_extension(ARRIVED_BODY)


def document() -> AbstractContextManager[Any]:
    """Build a response by Starlette's own constructor."""

    def build(self: Document, document: bytes, status_code: int = 200) -> None:
        Response.__init__(self, document, status_code, NO_STORE, "application/json")

    return patch.object(Document, "__init__", build)


def at_once() -> AbstractContextManager[Any]:
    """Lock what owners use, insert and update: several statements a batch, on PostgreSQL as on SQLite."""
    return patch.object(writes, "_added_at_once", lambda connection, adds: False)


class _PlainInsert:
    def __init__(self, insert: Any) -> None:
        self._table, self._names = insert._table, insert._names

    def run(self, connection: sa.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        if rows:
            connection.execute(self._table.insert(), [dict(zip(self._names, row, strict=True)) for row in rows])


@contextmanager
def prepared() -> Iterator[None]:
    """Insert and update many rows by SQLAlchemy's own executemany."""

    def run(self: Prepared, connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
        if not rows:
            return
        statement: Any = self._statement
        if isinstance(statement, sa.Update):
            names = {str(getattr(column, "name", column)) for column in statement._values or ()}
            keys = names | (rows[0].keys() - set(statement.table.c.keys()))
            plain = sa.update(statement.table).where(*statement._where_criteria)
            connection.execute(plain, [{key: row[key] for key in keys} for row in rows])
        else:
            connection.execute(statement, rows)

    with ExitStack() as stack:
        stack.enter_context(patch.object(Prepared, "run", run))
        for module in (writes, outbox):
            stack.enter_context(patch.object(module, "_INSERT", _PlainInsert(module._INSERT)))
        stack.enter_context(at_once())
        yield


_UNCACHED_SIGNER = sigv4._signer_of.__wrapped__


def signer() -> AbstractContextManager[Any]:
    """Write the dates and the query of each URL anew."""
    return patch.object(sigv4, "_signer_of", _UNCACHED_SIGNER)


@contextmanager
def ids() -> Iterator[None]:
    """Pass each id of a batch as a parameter of its own."""
    among = media.c.id.in_(sa.bindparam("ids", expanding=True))
    get = sa.select(*COLUMNS).where(among)
    current = sa.select(media.c.id, media.c.state, media.c.version).where(among).order_by(media.c.id).with_for_update()
    with patch.object(reads, "_get", lambda dialect: get), patch.object(writes, "_current", lambda dialect: current):
        yield


def policy_json() -> AbstractContextManager[Any]:
    """Write the policy by json.dumps."""

    def presign_post(
        promise: Promise, credentials: Credentials, *, now: Any, region: str, expires_in: int
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

    return patch.object(bucket, "presign_post", presign_post)


@contextmanager
def gc_rest() -> Iterator[None]:
    """Leave Python's garbage collector as it is."""
    gc.unfreeze()
    gc.set_threshold(700, 10, 10)
    try:
        yield
    finally:
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)


def telemetry() -> AbstractContextManager[Any]:
    """Let FastAPI look for OpenTelemetry at each request."""
    return patch.object(broker.app, "NO_TELEMETRY", None)


PLAIN_FORMS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    form.__name__: form
    for form in (
        as_it_is,
        fast_path,
        own_parameters,
        one_write,
        arrived_body,
        document,
        at_once,
        prepared,
        signer,
        ids,
        policy_json,
        gc_rest,
        telemetry,
    )
}
