"""A host's gate: the dependencies that a host application adds to the broker's routes, solved by FastAPI itself."""

from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import get_request_handler

from broker.api.asgi.body import ARRIVED_BODY
from broker.api.asgi.demands import Demand

Answer = Callable[..., Awaitable[Response]]
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def host_dependencies(dependant: Dependant) -> list[Dependant]:
    """Return the dependencies of a route that are not the broker's own demands, in FastAPI's order.

    Raises TypeError for a dependency that no route of the broker can run.
    """
    dependencies = [each for each in dependant.dependencies if not isinstance(each.call, Demand)]
    for dependency in dependencies:
        _require_runnable(dependency)
    return dependencies


def behind(dependencies: Sequence[Dependant], answer: Answer, path: str | None, overrides_provider: Any) -> Handler:
    """Return a handler in which FastAPI solves `dependencies`, then awaits `answer(request, **named values)`.

    So order, threads, `yield`, security scopes, overrides and background tasks are FastAPI's. The body is not read. An
    exception of a dependency reaches the host's exception handlers, as on the host's own routes.
    """

    async def proceed(request: Request, **values: Any) -> Response:
        # A dependency may have read the body; the request then holds it, and the server no longer does.
        request.scope.get("extensions", {}).pop(ARRIVED_BODY, None)
        return await answer(request, **values)

    entrance = Dependant(call=proceed, path=path, request_param_name="request", dependencies=list(dependencies))
    return get_request_handler(entrance, dependency_overrides_provider=overrides_provider)


def _require_runnable(dependency: Dependant) -> None:
    for each in _with_nested(dependency):
        if each.body_params:
            raise TypeError(
                f"{_name(dependency)} cannot be a dependency of the broker's routes: {_name(each)} declares a body "
                "parameter, and a route's body is read after its dependencies. Take the Request and read it there."
            )
        if each is not dependency and isinstance(each.call, Demand):
            raise TypeError(
                f"{_name(dependency)} cannot be a dependency of the broker's routes: it depends on {_name(each)}, "
                "and the broker meets its own demands after the host's dependencies."
            )


def _with_nested(dependency: Dependant) -> Iterator[Dependant]:
    yield dependency
    for nested in dependency.dependencies:
        yield from _with_nested(nested)


def _name(dependency: Dependant) -> str:
    call: Any = dependency.call
    return f"{call.__module__}.{getattr(call, '__qualname__', type(call).__qualname__)}"
