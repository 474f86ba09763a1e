"""The problems in the OpenAPI document: an example of each one that a route may return."""

from copy import deepcopy
from typing import Any

from fastapi.routing import APIRoute

from broker import errors
from broker.api.problems import MEDIA_TYPE, PROBLEMS
from broker.api.schemas import ProblemDocument
from broker.api.schemas.answers import EXAMPLE_ID
from broker.errors import BrokerError

EXAMPLE_FACTS: dict[str, Any] = {
    "reason": "it has expired",
    "permission": "media:upload",
    "content_type": "image/png",
    "allowed": "video/mp4, video/webm",
    "size": 250_000_000,
    "max_size": 100_000_000,
    "duration_seconds": 900.0,
    "max_seconds": 300,
    "quota": "pending_count",
    "limit": 20,
    "used": 20,
    "asked": 1,
    "media_status": "pending",
    "resumable": True,
    "parts_url": f"https://api.example/api/v1/s3-media/{EXAMPLE_ID}/parts",
    "upload_expires_at": "2026-11-24T12:00:00Z",
    "max_form_size": 5_368_709_120,
    "count": 20,
    "missing": [3, 17],
    "missing_count": 2,
    "numbers": "3, 17",
    "differences": "the type is 'text/html', not 'video/mp4'",
    "operation": "head_object",
    "seconds": 15.0,
    "retry_after": 30,
    "code": "AccessDenied",
    "cause": "it took too long",
    "errors": [{"at": "body.content_type", "problem": "Field required"}],
}
PROBLEM_SCHEMA = ProblemDocument.model_json_schema()
"""Inlined in each response, because a router cannot add a component to its host's OpenAPI document."""
COUNTED = (errors.RateLimited, errors.BodyTooLarge)
"""Problems of every rate-limited route."""
AUTHENTICATED = (
    errors.NotAuthenticated,
    errors.PermissionMissing,
    *COUNTED,
    errors.RequestInvalid,
    errors.KeysUnavailable,
    errors.DatabaseUnavailable,
)
"""Problems of every route that needs a token."""

S3_UNAVAILABLE = (errors.StorageUnavailable, errors.StorageRefused, errors.CredentialsExpired)
"""Problems of every route that asks S3."""


def operation_id(route: APIRoute) -> str:
    """Return the name of a route's function, whatever its prefix: generated clients name their methods after it."""
    return route.name


def problems(*kinds: type[BrokerError]) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI `responses` of a route that may return these problems."""
    responses: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        problem = PROBLEMS[kind]
        answer = responses.setdefault(
            problem.status,
            {
                "description": "",
                "content": {MEDIA_TYPE: {"schema": PROBLEM_SCHEMA, "examples": {}}},
            },
        )
        answer["description"] = "; ".join(filter(None, [answer["description"], problem.title]))
        answer["content"][MEDIA_TYPE]["examples"][problem.slug] = {"value": _example(kind)}
    return responses


def with_problem_component(document: dict[str, Any]) -> dict[str, Any]:
    """Return an OpenAPI document in which all problem responses refer to one component."""
    named: dict[str, Any] = deepcopy(document)
    schemas = named.setdefault("components", {}).setdefault("schemas", {})
    schemas["ProblemDocument"] = PROBLEM_SCHEMA
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for path in named["paths"].values():
        for operation in path.values():
            for response in operation["responses"].values():
                if MEDIA_TYPE in response.get("content", {}):
                    response["content"][MEDIA_TYPE]["schema"] = {"$ref": "#/components/schemas/ProblemDocument"}
    return named


def _example(kind: type[BrokerError]) -> dict[str, Any]:
    problem = PROBLEMS[kind]
    return {
        "type": problem.type,
        "title": problem.title,
        "status": problem.status,
        "detail": str(kind(**EXAMPLE_FACTS)),
        "success": False,
        **{name: EXAMPLE_FACTS[name] for name in problem.extra},
    }
