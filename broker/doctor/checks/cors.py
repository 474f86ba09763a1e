"""The checks of CORS, made by preflight requests as a browser makes them.

Source: the Fetch standard, "CORS-preflight request"; Amazon S3 User Guide, "Elements of a CORS configuration".
"""

import asyncio
import re
from dataclasses import dataclass
from typing import Any

import httpx

from broker.doctor.deployment import Patient, Refused
from broker.doctor.finding import Finding, Verdict, fail, ok, skip, warn
from broker.domain.origin import example_of

FOREIGN_ORIGIN = "https://doctor.invalid"
"""An origin that no deployment can have (RFC 2606, section 2)."""
METHODS = ("POST", "GET", "HEAD")
RULE_ID = "forms-and-playback"
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
    fix = await _fix(patient)
    findings = [_own_pages(own, patient, fix), _foreign_page(foreign, fix), _exposed(own, fix)]
    if findings[0].verdict is Verdict.OK:
        findings.append(await _tracing(patient, origins, fix))
    return findings


async def _tracing(patient: Patient, origins: list[str], fix: str) -> Finding:
    """Ask for a header that tracing libraries add to each request of a page."""
    answers = await asyncio.gather(*(_preflight(patient, origin, "POST", TRACING) for origin in origins))
    refused = [answer.origin for answer in answers if not answer.allowed]
    if not refused:
        return ok("CORS request headers", f"{TRACING} is allowed")
    return warn(
        "CORS request headers",
        f"{TRACING} is refused for {', '.join(refused)}",
        cause="the CORS rule lacks AllowedHeaders *; a page whose tracing library adds headers cannot upload",
        fix=fix,
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


def _own_pages(answers: list[Preflight], patient: Patient, fix: str) -> Finding:
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
        fix=fix,
        terraform=_TERRAFORM,
    )


def _foreign_page(answers: list[Preflight], fix: str) -> Finding:
    allowed = [answer.method for answer in answers if answer.allowed]
    if not allowed:
        return ok("CORS of others", f"{FOREIGN_ORIGIN} is refused")
    return fail(
        "CORS of others",
        f"{FOREIGN_ORIGIN} may {', '.join(allowed)}",
        cause="a CORS rule has * or too wide a pattern, so any page may use a leaked form or link",
        fix=fix,
        terraform=_TERRAFORM,
    )


def _exposed(answers: list[Preflight], fix: str) -> Finding:
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
        fix,
        _TERRAFORM,
    )


async def _fix(patient: Patient) -> str:
    """Return the command that sets the rule for the broker's pages, and keeps the bucket's other rules.

    It comes first, because S3 applies the first rule that matches (Amazon S3 User Guide, "How does CORS work?").
    """
    comment = ""
    try:
        rules: list[dict[str, Any]] = (await patient.ask("get_bucket_cors"))["CORSRules"]
    except (Refused, KeyError) as error:
        rules = []
        if not isinstance(error, Refused) or error.code != "NoSuchCORSConfiguration":
            comment = "  # replaces all rules; add those that the bucket has, which these keys cannot read"
    own = {
        "ID": RULE_ID,
        "AllowedOrigins": list(patient.deployment.page_origins) or ["https://app.example"],
        "AllowedMethods": list(METHODS),
        "AllowedHeaders": ["*"],
        "ExposeHeaders": list(EXPOSED),
        "MaxAgeSeconds": 3600,
    }
    kept = [narrowed for rule in rules if (narrowed := _narrowed(rule)) is not None]
    return patient.s3api("put-bucket-cors", document=("--cors-configuration", {"CORSRules": [own, *kept]})) + comment


def _narrowed(rule: dict[str, Any]) -> dict[str, Any] | None:
    """Return a rule without the origins that admit foreign pages, or None if nothing of it is to be kept."""
    if not set(METHODS) & set(rule["AllowedMethods"]):
        return rule
    origins = [pattern for pattern in rule["AllowedOrigins"] if not _admits_others(pattern)]
    if not origins:
        return None
    # Its id would be that of the new rule.
    return {name: value for name, value in rule.items() if (name, value) != ("ID", RULE_ID)} | {
        "AllowedOrigins": origins
    }


def _admits_others(pattern: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), FOREIGN_ORIGIN) is not None
