"""The table of problems: the HTTP response for each domain error.

Source: RFC 9457, "Problem Details for HTTP APIs".
"""

import json
from dataclasses import dataclass
from http import HTTPStatus

from fastapi.responses import Response
from pydantic_core import to_jsonable_python

from broker import errors, metrics
from broker.errors import BrokerError

MEDIA_TYPE = "application/problem+json"
NO_STORE = {"Cache-Control": "no-store"}


@dataclass(frozen=True, slots=True)
class Problem:
    """The response for one error. `retry_after` is in seconds; a value in the error's facts takes precedence."""

    status: int
    slug: str
    title: str
    retry_after: int | None = None
    extra: tuple[str, ...] = ()
    """The facts of the error that become members of the problem document."""

    @property
    def type(self) -> str:
        """Return the stable identifier of this problem type."""
        return f"urn:s3-media:problem:{self.slug}"


LOGGED = "The failure is logged under the X-Request-ID of this answer; retry later."
NO_ROUTE = "No route has this path; /docs lists the routes."
INTERNAL = Problem(500, "internal", "The broker failed")
PROBLEMS: dict[type[BrokerError], Problem] = {
    errors.NotAuthenticated: Problem(401, "not-authenticated", "Not authenticated"),
    errors.PermissionMissing: Problem(403, "permission-missing", "Permission missing"),
    errors.RateLimited: Problem(429, "rate-limited", "Too many requests", extra=("retry_after",)),
    errors.HostInvalid: Problem(400, "host-invalid", "Host not valid"),
    errors.BodyTooLarge: Problem(413, "body-too-large", "Body too large", extra=("max_size",)),
    errors.BodyCutShort: Problem(400, "body-cut-short", "Body cut short"),
    errors.BodyTooSlow: Problem(408, "body-too-slow", "Body too slow"),
    errors.MediaNotFound: Problem(404, "media-not-found", "Media not found"),
    errors.RequestInvalid: Problem(422, "request-invalid", "Request not valid", extra=("errors",)),
    errors.TypeNotAllowed: Problem(422, "type-not-allowed", "Content type not allowed"),
    errors.SizeNotAllowed: Problem(422, "size-not-allowed", "Size not allowed", extra=("max_size",)),
    errors.ResumableRequired: Problem(422, "resumable-required", "Resumable upload required", extra=("max_form_size",)),
    errors.DurationNotAllowed: Problem(422, "duration-not-allowed", "Duration not allowed", extra=("max_seconds",)),
    errors.MetadataTooLarge: Problem(422, "metadata-too-large", "Metadata too large", extra=("max_size",)),
    errors.RedirectNotAllowed: Problem(422, "redirect-not-allowed", "Redirect not allowed"),
    errors.UploadRefused: Problem(403, "upload-refused", "Upload refused"),
    errors.QuotaExceeded: Problem(403, "quota-exceeded", "Quota exceeded", extra=("quota", "limit", "used", "asked")),
    errors.IdempotencyKeyReused: Problem(422, "idempotency-key-reused", "Idempotency-Key reused"),
    errors.IdempotencyKeyInFlight: Problem(
        409, "idempotency-key-in-flight", "Idempotency-Key in flight", retry_after=1
    ),
    errors.NothingUploaded: Problem(409, "nothing-uploaded", "Nothing uploaded yet", retry_after=2),
    errors.PartsMissing: Problem(
        409, "parts-missing", "Parts are missing", retry_after=2, extra=("missing", "missing_count", "count")
    ),
    errors.NotResumable: Problem(409, "not-resumable", "Media not resumable"),
    errors.PromotionRunning: Problem(409, "promotion-running", "Upload is being confirmed", retry_after=2),
    errors.NotReady: Problem(
        409,
        "not-ready",
        "Media not ready",
        retry_after=2,
        extra=("media_status", "resumable", "parts_url", "upload_expires_at"),
    ),
    errors.UploadRejected: Problem(422, "upload-rejected", "Upload rejected", extra=("differences",)),
    errors.UploadExpired: Problem(410, "upload-expired", "Upload expired"),
    errors.StorageUnavailable: Problem(503, "storage-away", "S3 is unavailable", retry_after=5),
    errors.StorageRefused: Problem(503, "storage-refused", "S3 refused the broker", retry_after=30),
    errors.ProbeFailed: Problem(503, "probe-failed", "The upload could not be inspected", retry_after=5),
    errors.CredentialsExpired: Problem(503, "credentials-expired", "Credentials have expired", retry_after=10),
    errors.KeysUnavailable: Problem(503, "keys-away", "Keys cannot be fetched", retry_after=5),
    errors.ApplicationUnavailable: Problem(503, "application-away", "The application is unavailable", retry_after=5),
    errors.DatabaseUnavailable: Problem(503, "database-away", "The database is unavailable", retry_after=5),
}


def problem_response(error: BrokerError) -> Response:
    """Return the problem response that the table names for `error`."""
    problem = PROBLEMS.get(type(error), INTERNAL)
    headers = {**NO_STORE}
    if isinstance(error, errors.BodyTooSlow):
        headers["Connection"] = "close"  # the rest of the body would be read as a request (RFC 9110, 15.5.9)
    retry_after = error.facts.get("retry_after", problem.retry_after)
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    if challenge := _challenge(error):
        headers["WWW-Authenticate"] = challenge
    document = json.dumps(problem_document(error), default=to_jsonable_python)
    return Response(document, problem.status, headers, MEDIA_TYPE)


def problem_document(error: BrokerError) -> dict[str, object]:
    """Return the problem that the table names for `error`, as a JSON object, and count it."""
    problem = PROBLEMS.get(type(error), INTERNAL)
    metrics.REFUSALS.labels(problem.slug).inc()
    if isinstance(error, errors.QuotaExceeded):
        metrics.QUOTA_REFUSALS.labels(error.facts["quota"]).inc()
    detail = str(error) if problem is not INTERNAL else LOGGED
    extra = {name: error.facts[name] for name in problem.extra if name in error.facts}
    return _document(problem.status, problem.type, problem.title, detail, **extra)


def _challenge(error: BrokerError) -> str | None:
    """Return the challenge for a 401 or 403; it names an error only if a token was sent (RFC 6750, section 3)."""
    if isinstance(error, errors.PermissionMissing):
        return f'Bearer realm="s3-media", error="insufficient_scope", scope="{error.facts["permission"]}"'
    if isinstance(error, errors.NotAuthenticated):
        return 'Bearer realm="s3-media"' + (', error="invalid_token"' if error.facts.get("token_sent") else "")
    return None


def http_problem(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    """Return a problem for a plain HTTP error, such as an unknown path or method."""
    return render(status, "about:blank", HTTPStatus(status).phrase, detail, headers=headers or {})


def internal_problem() -> Response:
    """Return the problem for an unexpected failure, without its details."""
    metrics.REFUSALS.labels(INTERNAL.slug).inc()
    return render(500, INTERNAL.type, INTERNAL.title, LOGGED, headers={})


def stopping_problem() -> Response:
    """Return the problem for a request that a stopping process cannot finish."""
    headers = {"Retry-After": "1", "Connection": "close"}
    return http_problem(503, "This process is stopping; retry, and another one will answer.", headers)


def render(status: int, kind: str, title: str, detail: str, *, headers: dict[str, str]) -> Response:
    """Return one problem document as a response."""
    return Response(json.dumps(_document(status, kind, title, detail)), status, {**NO_STORE, **headers}, MEDIA_TYPE)


def _document(status: int, kind: str, title: str, detail: str, **extra: object) -> dict[str, object]:
    return {"type": kind, "title": title, "status": status, "detail": detail, "success": False, **extra}
