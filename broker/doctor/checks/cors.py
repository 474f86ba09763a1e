"""The checks of CORS, made by preflight requests as a browser makes them.

Source: the Fetch standard, "CORS-preflight request"; Amazon S3 User Guide, "Elements of a CORS configuration".
"""

import asyncio
from dataclasses import dataclass

import httpx

from broker.doctor.deployment import Patient
from broker.doctor.finding import Finding, Verdict, fail, ok, skip, warn
from broker.domain.origin import example_of

FOREIGN_ORIGIN = "https://doctor.invalid"
"""An origin that no deployment can have (RFC 2606, section 2)."""
METHODS = ("POST", "GET", "HEAD")
EXPOSED = ("ETag", "Location")
TRACING = "traceparent"
"""A request header that tracing libraries add (W3C Trace Context)."""
_TERRAFORM = "aws_s3_bucket_cors_configuration.media (allowed_origins)"


@dataclass(frozen=True, slots=True)
class Preflight:
    """The response to a preflight of `origin` for `method`; `reason` is the status or the error's class."""

    origin: str
    method: str
    allowed: bool
    exposed: frozenset[str]
    reason: str


async def pages(patient: Patient) -> list[Finding]:
    """Send preflights for each configured origin (an example of each pattern), and for a foreign one."""
    origins = [example_of(origin) for origin in patient.deployment.page_origins]
    cases = [(origin, method) for origin in (*origins, FOREIGN_ORIGIN) for method in METHODS]
    answers = await asyncio.gather(*(_preflight(patient, origin, method) for origin, method in cases))
    own = [answer for answer in answers if answer.origin != FOREIGN_ORIGIN]
    foreign = [answer for answer in answers if answer.origin == FOREIGN_ORIGIN]
    findings = [_own_pages(own, patient), _foreign_page(foreign, patient), _exposed(own, patient)]
    if findings[0].verdict is Verdict.OK:
        findings.append(await _tracing(patient, origins))
    return findings


async def _tracing(patient: Patient, origins: list[str]) -> Finding:
    """Ask for a header that tracing libraries add to each request of a page."""
    answers = await asyncio.gather(*(_preflight(patient, origin, "POST", TRACING) for origin in origins))
    refused = [answer.origin for answer in answers if not answer.allowed]
    if not refused:
        return ok("CORS request headers", f"{TRACING} is allowed")
    return warn(
        "CORS request headers",
        f"{TRACING} is refused for {', '.join(refused)}",
        cause="the CORS rule lacks AllowedHeaders *; a page whose tracing library adds headers cannot upload",
        fix=_rule(patient),
        terraform=_TERRAFORM,
    )


async def _preflight(patient: Patient, origin: str, method: str, *request_headers: str) -> Preflight:
    headers = {"Origin": origin, "Access-Control-Request-Method": method}
    if request_headers:
        headers["Access-Control-Request-Headers"] = ",".join(request_headers)
    url = patient.bucket.form_url + ("" if method == "POST" else patient.staging_key("cors"))
    try:
        answer = await patient.http.options(url, headers=headers)
    except httpx.HTTPError as error:
        return Preflight(origin, method, False, frozenset(), type(error).__name__)
    methods = [name.strip() for name in answer.headers.get("access-control-allow-methods", "").split(",")]
    headers_allowed = {
        name.strip().lower() for name in answer.headers.get("access-control-allow-headers", "").split(",")
    }
    # A browser requires a success, its own origin, the headers that it asked for, and the method; but GET, HEAD and
    # POST need not be listed.
    allowed = (
        answer.is_success
        and answer.headers.get("access-control-allow-origin") in {origin, "*"}
        and (method in methods or "*" in methods or methods == [""])
        and ("*" in headers_allowed or headers_allowed.issuperset(request_headers))
    )
    exposed = answer.headers.get("access-control-expose-headers", "").lower().split(",")
    return Preflight(
        origin, method, allowed, frozenset(name.strip() for name in exposed), f"status {answer.status_code}"
    )


def _own_pages(answers: list[Preflight], patient: Patient) -> Finding:
    if not answers:
        return warn(
            "CORS",
            "BROKER_CORS_ORIGINS names no origin",
            cause="no page in a browser may call the broker; apps and servers may",
            fix="export BROKER_CORS_ORIGINS=https://app.example  # the origins of your pages, comma-separated",
        )
    refused = [answer for answer in answers if not answer.allowed]
    if not refused:
        return ok("CORS", f"{', '.join(patient.deployment.page_origins)} may {', '.join(METHODS)}")
    first = refused[0]
    cases = ", ".join(f"{answer.origin} {answer.method}" for answer in refused)
    return fail(
        "CORS",
        f"refused: {cases} ({first.reason})",
        cause="the bucket has no CORS rule for it, so a browser sends nothing",
        fix=_rule(patient),
        terraform=_TERRAFORM,
    )


def _foreign_page(answers: list[Preflight], patient: Patient) -> Finding:
    allowed = [answer.method for answer in answers if answer.allowed]
    if not allowed:
        return ok("CORS of others", f"{FOREIGN_ORIGIN} is refused")
    return fail(
        "CORS of others",
        f"{FOREIGN_ORIGIN} may {', '.join(allowed)}",
        cause="a CORS rule has * or too wide a pattern, so any page may use a leaked form or link",
        fix=_rule(patient),
        terraform=_TERRAFORM,
    )


def _exposed(answers: list[Preflight], patient: Patient) -> Finding:
    posts = [answer for answer in answers if answer.method == "POST" and answer.allowed]
    if not posts:
        return skip("CORS headers", "no origin may POST")
    missing = [name for name in EXPOSED if any(name.lower() not in answer.exposed for answer in posts)]
    if not missing:
        return ok("CORS headers", f"{' and '.join(EXPOSED)} are exposed")
    return Finding(
        "CORS headers",
        Verdict.FAIL,
        f"not exposed: {', '.join(missing)}",
        "upload libraries wait for ETag and read Location; without them an upload hangs at its end",
        _rule(patient),
        _TERRAFORM,
    )


def _rule(patient: Patient) -> str:
    rule = {
        "ID": "forms-and-playback",
        "AllowedOrigins": list(patient.deployment.page_origins) or ["https://app.example"],
        "AllowedMethods": list(METHODS),
        "AllowedHeaders": ["*"],
        "ExposeHeaders": list(EXPOSED),
        "MaxAgeSeconds": 3600,
    }
    return patient.s3api("put-bucket-cors", document=("--cors-configuration", {"CORSRules": [rule]}))
