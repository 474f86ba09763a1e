"""The application: `create_app` builds it whole, `create_router` the part that another application includes."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.responses import Response
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from broker.api.asgi.cors import with_cors
from broker.api.asgi.fast_path import FastPath
from broker.api.asgi.middleware import Envelope
from broker.api.asgi.proxies import Proxied
from broker.api.asgi.route import build_handlers
from broker.api.asgi.target import CheckedTarget
from broker.api.documentation import with_problem_component
from broker.api.problems import NO_ROUTE, http_problem
from broker.api.routes import health, media, metrics, owners, parts, uploads
from broker.api.routes.refusals import refusals
from broker.api.routes.web import web_router
from broker.api.state import STATE_NAME, Services
from broker.clock import Clock, utc_now
from broker.lifecycle.application.deciding import IssueHandler
from broker.settings import Settings
from broker.wiring import Hooks, running, video_probe

if TYPE_CHECKING:
    from broker.worker.ready_calls import ReadyHandler

PREFIX = "/api/v1/s3-media"
NO_TELEMETRY = TelemetryConfig(tracing=False, metrics=False, logs=False)
"""Used if OpenTelemetry's SDK is not installed; FastAPI would search for it again at each request. Saves 4 % of a
request's processor time (tests.bench.ablation)."""

Lifespan = Callable[[Any], AbstractAsyncContextManager[dict[str, Services]]]


def create_app(
    settings: Settings,
    *,
    on_issue: IssueHandler | None = None,
    on_ready: "ReadyHandler | None" = None,
    clock: Clock = utc_now,
) -> FastAPI:
    """Return the application: the router under its prefix, the middleware, and the documentation.

    `on_issue` and `on_ready` are those of `create_router`.
    """
    app = Application(
        settings,
        title="S3 media broker",
        version=_version(),
        description="Direct-to-S3 video uploads: get a policy, upload, and complete; the broker checks the object.",
        separate_input_output_schemas=False,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would name a host and scheme to which a client may then send its token
    )
    router = create_router(settings, on_issue=on_issue, on_ready=on_ready, clock=clock)
    app.include_router(router, prefix=PREFIX)
    slashless = media.without_slash(PREFIX), owners.without_slash(PREFIX)
    for each in (refusals(*slashless, fixed=True), *slashless):
        app.include_router(each, include_in_schema=False)
    app.include_router(health.router, include_in_schema=False)
    app.include_router(refusals(health.router, fixed=True))
    app.include_router(metrics.router)
    _add_documentation(app)
    return app


def _add_documentation(app: FastAPI) -> None:
    """Add the pages of the documentation. They name the document beside them, also where a proxy strips a prefix."""

    async def docs() -> Response:
        return get_swagger_ui_html(openapi_url="openapi.json", title=app.title)

    async def redoc() -> Response:
        return get_redoc_html(openapi_url="openapi.json", title=app.title)

    for path, page in (("/docs", docs), ("/redoc", redoc)):
        app.add_api_route(path, page, include_in_schema=False)


class Application(FastAPI):
    """FastAPI with the broker's middleware, and a fast path to the media routes."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        is_traced = find_spec("opentelemetry.sdk") is not None
        super().__init__(telemetry=None if is_traced else NO_TELEMETRY, **options)
        self.add_exception_handler(HTTPException, _http_error)
        self._own_handlers = dict(self.exception_handlers)
        self._settings = settings

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document, in which all problem responses share one schema."""
        if self.openapi_schema is None:
            self.openapi_schema = with_problem_component(super().openapi())
        return self.openapi_schema

    def build_middleware_stack(self) -> ASGIApp:
        """Return the whole stack; the layer added last sees a request first."""
        settings = self._settings
        app = super().build_middleware_stack()
        is_extended = self.user_middleware or self.exception_handlers != self._own_handlers
        if not is_extended:  # the fast path would bypass middleware and exception handlers that were added
            app = FastPath(app, PREFIX, self.routes)
        if settings.cors_origins:
            app = with_cors(app, origins=settings.cors_origins, headers=settings.cors_headers)
        app = Envelope(CheckedTarget(app, settings.allowed_hosts))
        if settings.trusted_proxies:
            app = Proxied(app, settings.trusted_proxies, settings.proxy_headers)
        return app


def create_router(
    settings: Settings,
    *,
    on_issue: IssueHandler | None = None,
    on_ready: "ReadyHandler | None" = None,
    clock: Clock = utc_now,
) -> APIRouter:
    """Return the routes with the lifespan that serves them, for `app.include_router(router, prefix=…)`.

    `on_issue` decides on each new upload, within BROKER_ISSUE_HOOK_SECONDS. It is called after the broker's own rules
    and before anything is recorded; a request with a used Idempotency-Key does not call it again. `on_ready` is called
    for each media that became ready, at least once: after a failure, a restart or 15 seconds without a return again,
    for three days. Raises SettingsInvalid if the settings contradict them.
    """
    hooks = Hooks(on_issue, on_ready)
    hooks.check(settings)
    video_probe(settings)  # report a missing ffprobe now, not in the middle of the start
    router = APIRouter(lifespan=_lifespan(settings, clock, hooks))
    for together in ((health.router,), (web_router(),), (uploads.router, parts.router, media.router, owners.router)):
        router.include_router(refusals(*together, fixed=True))
        for part in together:
            router.include_router(part)
    router.include_router(refusals(parts.router, media.router, fixed=False))
    return router


def _lifespan(settings: Settings, clock: Clock, hooks: Hooks) -> Lifespan:
    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[dict[str, Services]]:
        build_handlers(app.routes)  # a dependency of the host that cannot be run is named now
        async with (
            running(settings, clock=clock, hooks=hooks) as (services, jobs),
            jobs.beside() if settings.sweep else nullcontext(),
        ):
            yield {STATE_NAME: services}

    return lifespan


async def _http_error(_: Request, error: Exception) -> Response:
    """Return a problem for an unknown path or method."""
    if not isinstance(error, HTTPException):
        raise error
    detail = NO_ROUTE if error.status_code == HTTPStatus.NOT_FOUND else error.detail
    return http_problem(error.status_code, detail, dict(error.headers or {}))


def _version() -> str:
    try:
        return version("s3-media-broker")
    except PackageNotFoundError:
        return "0"
