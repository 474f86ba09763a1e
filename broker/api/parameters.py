"""The short way from a request to the arguments of its endpoint.

FastAPI reads an endpoint's signature for the OpenAPI document, and would walk through it again for each request. Here
the same signature becomes one pydantic validator for path, query and headers, and one for the body.
"""

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import Request
from fastapi.dependencies.models import Dependant
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from broker.api.body import read_body
from broker.errors import RequestInvalid

Sent = Callable[[Request], Mapping[str, Any]]
SOURCES: dict[str, Sent] = {
    "path": lambda request: request.path_params,
    "query": lambda request: request.query_params,
    "header": lambda request: request.headers,
}


class Parameters:
    """Read the arguments of one endpoint; of a body, JSON alone is taken."""

    def __init__(self, dependant: Dependant) -> None:
        self._request_name = dependant.request_param_name
        self._caller_names = [dependency.name for dependency in dependant.dependencies if dependency.name]
        fields = {"path": dependant.path_params, "query": dependant.query_params, "header": dependant.header_params}
        named = [(source, field) for source, found in fields.items() for field in found]
        self._places = {field.name: (source, field.alias) for source, field in named}
        types: dict[str, Any] = {field.name: (field.field_info.annotation, field.field_info) for _, field in named}
        by_name = ConfigDict(validate_by_name=True, validate_by_alias=False, loc_by_alias=False)
        self._named: type[BaseModel] = create_model("Named", __config__=by_name, **types)
        self._bodies: list[tuple[str, Any]] = [
            (field.name, field.field_info.annotation) for field in dependant.body_params
        ]

    async def read(self, request: Request, caller: object) -> dict[str, Any]:
        """Return the arguments by name. Raises RequestInvalid, which says where and what, but quotes no value."""
        arguments: dict[str, Any] = dict.fromkeys(self._caller_names, caller)
        if self._request_name is not None:
            arguments[self._request_name] = request
        if self._places:
            arguments |= self._read_named(request)
        for name, model in self._bodies:
            arguments[name] = _read_body(request, model, await read_body(request.receive))
        return arguments

    def _read_named(self, request: Request) -> dict[str, Any]:
        sent = {}
        for name, (source, alias) in self._places.items():
            value = SOURCES[source](request).get(alias)
            if value is not None:
                sent[name] = value
        try:
            return dict(self._named.model_validate(sent))
        except ValidationError as error:
            raise _invalid(error, lambda location: (*self._places[str(location[0])], *location[1:])) from None


def _read_body(request: Request, model: type[BaseModel], body: bytes) -> BaseModel:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        reason = "should be sent as application/json"
        raise RequestInvalid(reason=f"body: {reason}", errors=[{"at": "body", "problem": reason}])
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _invalid(error, lambda location: ("body", *location)) from None


def _invalid(error: ValidationError, place: Callable[[tuple[int | str, ...]], tuple[object, ...]]) -> RequestInvalid:
    found = [
        {"at": ".".join(str(part) for part in place(one["loc"])), "problem": one["msg"]}
        for one in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    return RequestInvalid(reason="; ".join(f"{one['at']}: {one['problem']}" for one in found), errors=found)
