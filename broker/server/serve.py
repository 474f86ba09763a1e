"""The processes of `broker serve` and `broker worker`, once the settings are read."""

import asyncio
import gc
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, nullcontext, suppress
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI
from prometheus_client import start_http_server

from broker.app import create_app
from broker.errors import DatabaseUnavailable, SettingsInvalid
from broker.logs import configure_logging
from broker.metrics import SHARED_DIRECTORY, counting_together
from broker.server.connections import SERVING
from broker.server.cores import usable_cores
from broker.server.parent import end_with_parent
from broker.settings import Settings, load_settings, unknown_variables
from broker.store import require_current
from broker.wiring import running, video_probe

GC_THRESHOLDS = (50_000, 20, 20)
"""Arguments of gc.set_threshold. Requests create no reference cycles, so Python's default of 700 would run a collection
every few requests for nothing. With gc.freeze, saves 4 % of a request's processor time (tests.bench.ablation)."""

START_FAILED = 3
"""The exit status if the application could not start; uvicorn's own."""

Beside = AbstractContextManager[Settings]
"""A service that runs beside the server. It yields the settings bound to it."""

log = structlog.get_logger()


def serve(
    settings: Settings, *, workers: int | None, embedded_s3: Callable[[Settings], Beside] | None, **options: Any
) -> None:
    """Serve until SIGTERM or SIGINT; `options` are uvicorn's.

    `workers` is the number of processes; None picks the fastest number. `embedded_s3` starts an S3 beside the broker
    if the settings name no other one, and yields the settings bound to it. Raises SettingsInvalid before anything
    starts.
    """
    if workers is None:
        workers = fastest_workers(settings)
    _require_servable(settings, workers=workers, embedded_s3=embedded_s3 is not None)
    _log_from(settings)
    _warn_of_unknown_variables()
    _require_current(settings)
    beside = nullcontext(settings) if settings.use_cloud_storage or embedded_s3 is None else embedded_s3(settings)
    with beside as bound, ExitStack() as stack:
        if bound is not settings:
            _log_from(bound)
        _require_openable(bound)
        _warn_of_wide_doors(bound)
        if workers > 1:
            _count_together(stack)
        if not bound.sweep:
            log.info("this process does not sweep; run `broker worker` or set BROKER_SWEEP=true")
        if workers > 1 and bound.redis_url is None:
            log.info(
                "each process counts its own rate limits; set BROKER_RATE_LIMIT_STORAGE=redis://… to count together"
            )
        if workers == 1:
            _run(uvicorn.Config(_quiet(create_app(bound)), **SERVING, **options))
        else:
            uvicorn.run("broker.server.serve:worker_application", factory=True, workers=workers, **SERVING, **options)


def _run(config: uvicorn.Config) -> None:
    """Serve with this process alone.

    For all addresses of IPv6, asyncio would make a socket that refuses IPv4, and the same command with more processes
    one that accepts it.
    """
    server = uvicorn.Server(config)
    with suppress(KeyboardInterrupt):
        server.run(sockets=[config.bind_socket()] if config.host == "::" else None)
    if not server.started:
        sys.exit(START_FAILED)


def worker_application() -> FastAPI:
    """Return the application of one of several processes, which inherit the environment that was checked."""
    end_with_parent()
    settings = load_settings()
    _log_from(settings)
    return _quiet(create_app(settings))


async def work_until_stopped(settings: Settings) -> None:
    """Sweep, receive S3's events and deliver webhooks until SIGTERM or SIGINT, then finish the work under way.

    Raises SettingsInvalid.
    """
    if not settings.use_cloud_storage:
        raise SettingsInvalid(problems="USE_CLOUD_STORAGE: should be true; `broker dev` sweeps by itself")
    _log_from(settings)
    _warn_of_unknown_variables()
    await asyncio.to_thread(_require_current, settings)
    if settings.worker_metrics_port is not None:
        try:
            start_http_server(settings.worker_metrics_port, settings.worker_metrics_host)
        except OSError as error:
            raise SettingsInvalid(
                problems=f"BROKER_WORKER_METRICS_PORT, BROKER_WORKER_METRICS_HOST: cannot be used: {error.strerror}"
            ) from error
    async with running(settings) as (_, jobs):
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        async with jobs.beside() as working:
            log.info("working", events=settings.sqs_queue_url is not None)
            stop = asyncio.create_task(stopped.wait())
            await asyncio.wait({working, stop}, return_when=asyncio.FIRST_COMPLETED)
            stop.cancel()
    log.info("stopped")


def fastest_workers(settings: Settings) -> int:
    """Return one process for each core on PostgreSQL, and one on SQLite, which has a single writer."""
    if not settings.use_cloud_storage or settings.database_url.startswith("sqlite"):
        return 1
    return usable_cores()


def _quiet(app: FastAPI) -> FastAPI:
    """Return the application, which freezes and slows this process's garbage collector once it has started.

    Objects made until then live until the end. A full collection of them takes tens of milliseconds, and no request is
    answered meanwhile. Source: Python's documentation of `gc.freeze`.
    """
    start = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(application: FastAPI) -> AsyncIterator[Any]:
        async with start(application) as state:
            gc.collect()
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLDS)
            yield state

    app.router.lifespan_context = lifespan
    return app


def _require_servable(settings: Settings, *, workers: int, embedded_s3: bool) -> None:
    if not settings.use_cloud_storage and not embedded_s3:
        raise SettingsInvalid(
            problems="USE_CLOUD_STORAGE: should be true; false is for `broker dev`, or needs --embedded-s3"
        )
    video_probe(settings)
    if workers > 1 and not settings.use_cloud_storage:
        raise SettingsInvalid(problems="--workers: should be 1 with the embedded S3")
    if workers > 1 and settings.database_url.startswith("sqlite"):
        raise SettingsInvalid(
            problems="--workers: should be 1 with SQLite, which has one writer; for more set "
            "BROKER_DATABASE_URL=postgresql://…"
        )


def _require_current(settings: Settings) -> None:
    """Raise DatabaseBehind for a database that lacks a migration. One that is unavailable may come back."""
    try:
        require_current(settings.database_url, schema=settings.database_schema)
    except DatabaseUnavailable as error:
        log.warning("the database is unavailable, so its revision is unknown", reason=error.reason)


def _require_openable(settings: Settings) -> None:
    """Open every service once and close it, so that a wrong setting is named before a process is started."""

    async def open_once() -> None:
        async with running(settings):
            return

    asyncio.run(open_once())


def _count_together(stack: ExitStack) -> None:
    """Share the metrics of several processes, so that any of them answers for all at `/metrics`."""
    try:
        stack.enter_context(counting_together())
    except OSError as error:
        log.warning(
            "each process exposes its own metrics, because no shared directory can be made",
            reason=str(error),
            setting=f"TMPDIR or {SHARED_DIRECTORY}",
        )


def _warn_of_wide_doors(settings: Settings) -> None:
    """Warn of tokens that are accepted because a setting is missing."""
    if not settings.jwt_issuer:
        log.warning("tokens of any issuer are accepted", setting="BROKER_JWT_ISSUER")
    if not settings.jwt_audience:
        log.warning("tokens for any audience are accepted", setting="BROKER_JWT_AUDIENCE")


def _warn_of_unknown_variables() -> None:
    """Warn of variables that look like a setting, because a misspelt one leaves a default in place."""
    for name, setting in unknown_variables().items():
        log.warning("no setting has this name", variable=name, meant=setting)


def _log_from(settings: Settings) -> None:
    """Log JSON lines to standard output at the set level, with this deployment's secrets redacted."""
    configure_logging(settings.log_level, secrets=settings.secrets())
