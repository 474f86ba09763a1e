"""Cross-origin requests, by a bucket's CORS rules: the preflight, and the headers of every response.

Source: Amazon S3 User Guide, "Using cross-origin resource sharing (CORS)".
"""

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from xml.etree.ElementTree import Element

from starlette.responses import Response

from broker.dev.s3.documents import children, parse_xml
from broker.dev.s3.errors import S3Error
from broker.dev.s3.request import Request
from broker.dev.s3.services import Services

RULES_MAX = 100
METHODS = frozenset({"GET", "PUT", "HEAD", "POST", "DELETE"})
_VARY = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"


@dataclass(frozen=True, slots=True)
class Rule:
    """One CORS rule of a bucket."""

    origins: tuple[str, ...]
    methods: tuple[str, ...]
    request_headers: tuple[str, ...]
    exposed: tuple[str, ...]
    max_age: str | None

    def allows(self, origin: str, method: str, requested_headers: list[str]) -> bool:
        """Return whether a page of an origin may send this method with these headers."""
        return (
            any(_wildcard(origin, pattern) for pattern in self.origins)
            and method in self.methods
            and all(
                any(_wildcard(name, pattern.lower()) for pattern in self.request_headers) for name in requested_headers
            )
        )

    def answer(self, origin: str, requested_headers: list[str]) -> dict[str, str]:
        """Return the headers that let the page read the response."""
        any_origin = "*" in self.origins
        headers = {
            "access-control-allow-origin": "*" if any_origin else origin,
            "access-control-allow-methods": ", ".join(self.methods),
            "vary": _VARY,
        }
        if not any_origin:
            headers["access-control-allow-credentials"] = "true"
        if requested_headers:
            headers["access-control-allow-headers"] = ", ".join(requested_headers)
        if self.exposed:
            headers["access-control-expose-headers"] = ", ".join(self.exposed)
        if self.max_age is not None:
            headers["access-control-max-age"] = self.max_age
        return headers


def preflight(services: Services, request: Request) -> Response:
    """Return the response to an OPTIONS request: 403, without Access-Control headers, if no rule allows it."""
    origin = request.headers.get("origin")
    method = request.headers.get("access-control-request-method")
    if origin is None:
        raise S3Error("BadRequest", "Insufficient information. Origin request header needed.")
    if not services.exists(request.bucket):
        raise _forbidden(request, "Bucket not found")
    rules = _rules(services, request.bucket)
    if not rules:
        raise _forbidden(request, "CORS is not enabled for this bucket.")
    if method is None:
        raise S3Error("BadRequest", "Invalid Access-Control-Request-Method: null")
    requested_headers = _requested_headers(request)
    for rule in rules:
        if rule.allows(origin, method, requested_headers):
            return Response(b"", 200, rule.answer(origin, requested_headers))
    raise _forbidden(
        request,
        # The typing error is S3's own.
        "This CORS request is not allowed. This is usually because the evalution of Origin, "
        "request method / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted by the "
        "resource's CORS spec.",
    )


def answer_headers(services: Services, request: Request) -> dict[str, str]:
    """Return the CORS headers of a response or a refusal; none if no rule matches the page's origin."""
    origin = request.headers.get("origin")
    if origin is None or not services.exists(request.bucket):
        return {}
    for rule in _rules(services, request.bucket):
        if rule.allows(origin, request.method, []):
            return rule.answer(origin, [])
    return {}


@lru_cache(maxsize=64)
def read_rules(document: bytes) -> tuple[Rule, ...]:
    """Read a CORS document, or refuse it as S3 does. An empty origin is allowed, and matches none."""
    rules = tuple(_read_rule(rule) for rule in children(parse_xml(document, "CORSConfiguration"), "CORSRule"))
    if not 1 <= len(rules) <= RULES_MAX:
        raise S3Error("MalformedXML")
    return rules


def _read_rule(rule: Element) -> Rule:
    origins, methods, headers, exposed, ages = (
        tuple(child.text or "" for child in children(rule, name))
        for name in ("AllowedOrigin", "AllowedMethod", "AllowedHeader", "ExposeHeader", "MaxAgeSeconds")
    )
    if not origins or not methods or not all(re.fullmatch(r"[0-9]{1,9}", age) for age in ages):
        raise S3Error("MalformedXML")
    for method in methods:
        if method not in METHODS:
            message = f"Found unsupported HTTP method in CORS config. Unsupported method is {method}"
            raise S3Error("InvalidRequest", message)
    for name, patterns in (("AllowedOrigin", origins), ("AllowedHeader", headers)):
        for pattern in patterns:
            if pattern.count("*") > 1:
                raise S3Error("InvalidRequest", f'{name} "{pattern}" can not have more than one wildcard.')
    for header in exposed:
        if "*" in header:
            message = (
                f'ExposeHeader "{header}" contains wildcard. We currently do not support wildcard for ExposeHeader.'
            )
            raise S3Error("InvalidRequest", message)
    return Rule(origins, methods, headers, exposed, ages[0] if ages else None)


def _rules(services: Services, bucket: str) -> tuple[Rule, ...]:
    document = services.cors(bucket)
    return () if document is None else read_rules(document)


def _forbidden(request: Request, reason: str) -> S3Error:
    return S3Error(
        "AccessForbidden",
        f"CORSResponse: {reason}",
        Method=request.headers.get("access-control-request-method", request.method),
        ResourceType="OBJECT" if request.key else "BUCKET",
    )


def _requested_headers(request: Request) -> list[str]:
    names = request.headers.get("access-control-request-headers", "").split(",")
    return [name.strip().lower() for name in names if name.strip()]


def _wildcard(text: str, pattern: str) -> bool:
    # Only `*` is special in S3's patterns, at most once.
    return fnmatchcase(text, pattern.replace("[", "[[]").replace("?", "[?]"))
