"""CORS: the pages that may call the broker, and the request headers that they may send.

Responses never allow credentials: a token is sent in a header, by the page itself.
Source: the Fetch standard, "HTTP CORS protocol".
"""

from collections.abc import Sequence

from fastapi.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from broker.domain.origin import expression_of, is_origin_pattern

REQUEST_HEADERS = ("Authorization", "Content-Type", "Idempotency-Key", "X-Request-ID")
TRACING_HEADERS = (
    # W3C Trace Context and W3C Baggage, which OpenTelemetry sends
    *("traceparent", "tracestate", "baggage"),
    *("sentry-trace",),
    # Zipkin's B3 propagation, and Jaeger
    *("b3", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags", "uber-trace-id"),
    # Datadog's browser SDK
    *("x-datadog-trace-id", "x-datadog-parent-id", "x-datadog-origin", "x-datadog-sampling-priority"),
    # AWS X-Ray, Azure's Application Insights, Elastic APM, New Relic
    *("x-amzn-trace-id", "request-id", "request-context", "elastic-apm-traceparent", "newrelic"),
)
"""The request headers that tracing libraries add to a page's calls; without them the page's preflights would fail."""
RESPONSE_HEADERS = ("RateLimit", "RateLimit-Policy", "Retry-After", "WWW-Authenticate", "X-Request-ID")
MAX_AGE_SECONDS = 600


def with_cors(app: ASGIApp, *, origins: Sequence[str], headers: Sequence[str]) -> ASGIApp:
    """Return `app` behind CORS for pages of `origins`, of which some may be patterns with a `*` label.

    Pages may send `headers` besides those of the broker and of tracing.
    """
    patterns = [expression_of(origin) for origin in origins if is_origin_pattern(origin)]
    return CORSMiddleware(
        app,
        allow_origins=[origin for origin in origins if not is_origin_pattern(origin)],
        allow_origin_regex="|".join(patterns) or None,
        allow_methods=("GET", "POST", "DELETE"),
        allow_headers=(*REQUEST_HEADERS, *TRACING_HEADERS, *headers),
        expose_headers=RESPONSE_HEADERS,
        max_age=MAX_AGE_SECONDS,
    )
