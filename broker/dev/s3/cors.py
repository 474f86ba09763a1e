"""Cross-origin requests, by a bucket's CORS rules: the preflight, and the headers on every answer.

Source: Amazon S3 User Guide, "Using cross-origin resource sharing (CORS)".
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase

from starlette.responses import Response

from broker.dev.s3.errors import S3Error
from broker.dev.s3.request import Request
from broker.dev.s3.services import Services

_VARY = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"


@dataclass(frozen=True, slots=True)
class Rule:
    """One CORS rule of a bucket."""

    origins: tuple[str, ...]
    methods: tuple[str, ...]
    request_headers: tuple[str, ...]
    exposed: tuple[str, ...]
    max_age: str | None

    def allows(self, origin: str, method: str, asked: list[str]) -> bool:
        """Tell whether a page of an origin may send this method with these headers."""
        return (
            any(_wildcard(origin, pattern) for pattern in self.origins)
            and method in self.methods
            and all(any(_wildcard(name, pattern.lower()) for pattern in self.request_headers) for name in asked)
        )

    def answer(self, origin: str, asked: list[str]) -> dict[str, str]:
        """Return the headers that let the page read the answer."""
        any_origin = "*" in self.origins
        headers = {
            "access-control-allow-origin": "*" if any_origin else origin,
            "access-control-allow-methods": ", ".join(self.methods),
            "vary": _VARY,
        }
        if not any_origin:
            headers["access-control-allow-credentials"] = "true"
        if asked:
            headers["access-control-allow-headers"] = ", ".join(asked)
        if self.exposed:
            headers["access-control-expose-headers"] = ", ".join(self.exposed)
        if self.max_age is not None:
            headers["access-control-max-age"] = self.max_age
        return headers


def preflight(services: Services, request: Request) -> Response:
    """Answer an OPTIONS request; what no rule allows gets 403 and no Access-Control header."""
    origin = request.headers.get("origin")
    method = request.headers.get("access-control-request-method")
    if origin is None:
        raise S3Error("BadRequest", "Insufficient information. Origin request header needed.")
    if method is None:
        raise S3Error("BadRequest", "Invalid Access-Control-Request-Method: null")
    rules = _rules(services, request.bucket)
    if not rules:
        raise S3Error(
            "AccessForbidden",
            "CORSResponse: CORS is not enabled for this bucket.",
            Method=method,
            ResourceType="OBJECT" if request.key else "BUCKET",
        )
    asked = _asked(request)
    for rule in rules:
        if rule.allows(origin, method, asked):
            return Response(b"", 200, rule.answer(origin, asked))
    raise S3Error(
        "AccessForbidden",
        "CORSResponse: This CORS request is not allowed. This is usually because the evaluation of Origin, "
        "request method / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted by the "
        "resource's CORS spec.",
        Method=method,
        ResourceType="OBJECT" if request.key else "BUCKET",
    )


def answer_headers(services: Services, request: Request) -> dict[str, str]:
    """Return the CORS headers of an answer, a refusal too; none when no rule fits the page's origin."""
    origin = request.headers.get("origin")
    if origin is None or not services.exists(request.bucket):
        return {}
    for rule in _rules(services, request.bucket):
        if rule.allows(origin, request.method, []):
            return rule.answer(origin, [])
    return {}


def _rules(services: Services, bucket: str) -> list[Rule]:
    return [
        Rule(
            origins=tuple(rule.allowed_origins),
            methods=tuple(rule.allowed_methods),
            request_headers=_names(rule.allowed_headers),
            exposed=_names(rule.exposed_headers),
            max_age=rule.max_age_seconds,
        )
        for rule in services.bucket(bucket).cors
    ]


def _names(names: str | list[str] | None) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names or ())


def _asked(request: Request) -> list[str]:
    names = request.headers.get("access-control-request-headers", "").split(",")
    return [name.strip().lower() for name in names if name.strip()]


def _wildcard(text: str, pattern: str) -> bool:
    # Only `*` is special in S3's patterns, at most once.
    return fnmatchcase(text, pattern.replace("[", "[[]").replace("?", "[?]"))
