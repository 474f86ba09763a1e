"""POST Object: a form with a signed policy and one file, and the response that its fields request.

Source: Amazon S3 API Reference, "POST Object" and "Authenticating Requests: Browser-Based Uploads Using POST".
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import SplitResult, quote, quote_plus, urlsplit, urlunsplit

from starlette.responses import Response

from broker.dev.s3 import facts, tagging
from broker.dev.s3.answers import Content, element, xml_document
from broker.dev.s3.auth import SIGV2_REFUSED
from broker.dev.s3.canonical import parse_amz_date, signature_mismatch
from broker.dev.s3.checksums import DEFAULT_ALGORITHM, declared, declared_md5, supported
from broker.dev.s3.errors import S3Error, invalid_argument
from broker.dev.s3.form import FormReader
from broker.dev.s3.plane import OBJECT_BYTES_MAX, Plane, Stored
from broker.dev.s3.policy import Policy, read_policy
from broker.dev.s3.request import Request, check_key
from broker.dev.s3.unserved import refuse_unserved
from broker.domain.s3 import sigv4

_SIGNATURE_FIELDS = {
    "x-amz-algorithm": "X-Amz-Algorithm",
    "x-amz-credential": "X-Amz-Credential",
    "x-amz-date": "X-Amz-Date",
    "x-amz-signature": "X-Amz-Signature",
    "policy": "policy",
}


async def post_object(plane: Plane, request: Request) -> Response:
    """Store the file of a form whose policy allows it."""
    length = request.content_length()
    reader = FormReader(request.headers.get("content-type", ""), request.body())
    form = await reader.fields()
    form.expand_filename()
    fields = form.fields
    if "key" not in fields:
        raise _missing("key")
    if not (key := fields["key"]):
        raise invalid_argument("User key must have a length greater than 0.", "key")
    check_key(key)
    policy = _authorize(plane, request, fields)
    plane.services.bucket(request.bucket)
    if length > OBJECT_BYTES_MAX:
        raise S3Error("EntityTooLarge", ProposedSize=length, MaxSizeAllowed=OBJECT_BYTES_MAX)
    expected, md5 = declared(fields), declared_md5(fields)
    facts.check(fields)
    refuse_unserved(fields)
    tags = tagging.read_tagging_field(fields["tagging"]) if "tagging" in fields else {}
    with plane.store.incoming(*(expected or [_algorithm(fields)])) as incoming:
        async for chunk in reader.file():
            incoming.write(chunk)
            policy.check_upper_bound(incoming.digests.size)
        policy.check_lower_bound(incoming.digests.size)
        incoming.digests.compare(expected, md5)
        incoming.close()
        stored = Stored(incoming.path, incoming.digests.size, incoming.digests.md5.hex(), incoming.digests.checksums)
        # If-None-Match and If-Match are not fields of a form.
        form_fields = {name: value for name, value in fields.items() if not name.startswith("if-")}
        version = plane.put("ObjectCreated:Post", request.bucket, key, stored, form_fields, tags=tags)
    location = f"{request.base_url}/{quote(key, safe='')}"
    headers = facts.stored_headers(version) | {"location": location}
    return _success(fields, request.bucket, key, headers)


def _authorize(plane: Plane, request: Request, fields: Mapping[str, str]) -> Policy:
    # A policy alone signs nothing.
    if not fields.keys() & ({*_SIGNATURE_FIELDS, "awsaccesskeyid", "signature"} - {"policy"}):
        raise S3Error("AccessDenied")
    if "awsaccesskeyid" in fields or "signature" in fields:
        raise S3Error("InvalidRequest", SIGV2_REFUSED)
    for name, written in _SIGNATURE_FIELDS.items():
        if name not in fields:
            raise _missing(written)
    if (algorithm := fields["x-amz-algorithm"]) != sigv4.ALGORITHM:
        raise invalid_argument(f'X-Amz-Algorithm only supports "{sigv4.ALGORITHM}"', "X-Amz-Algorithm", algorithm)
    scope = plane.authenticator.scope(fields["x-amz-credential"], "InvalidArgument")
    at = parse_amz_date(fields["x-amz-date"])
    if at is None or scope.day != f"{at:%Y%m%d}":
        raise invalid_argument(
            "X-Amz-Date must be in the ISO8601 Long Format and on the day of X-Amz-Credential",
            "X-Amz-Date",
            fields["x-amz-date"],
        )
    secret = plane.authenticator.keyring.secret(scope.access_key, fields.get("x-amz-security-token"))
    day = datetime.strptime(scope.day, "%Y%m%d").replace(tzinfo=UTC)
    encoded = fields["policy"]
    if not sigv4.same_signature(sigv4.sign(secret, day, scope.region, encoded), fields["x-amz-signature"]):
        raise signature_mismatch(scope.access_key, encoded, fields["x-amz-signature"])
    policy = read_policy(encoded)
    policy.enforce(fields, request.bucket, plane.clock.now())
    request.access_key = scope.access_key
    return policy


def _algorithm(fields: Mapping[str, str]) -> str:
    return supported(fields.get("x-amz-checksum-algorithm", DEFAULT_ALGORITHM))


def _success(fields: Mapping[str, str], bucket: str, key: str, headers: dict[str, str]) -> Response:
    target = _redirect(fields)
    if target is not None:
        added = "&".join(
            f"{name}={quote_plus(value)}"
            for name, value in (("bucket", bucket), ("key", key), ("etag", headers["etag"]))
        )
        query = f"{target.query}&{added}" if target.query else added
        return Response(b"", 303, headers | {"location": urlunsplit(target._replace(query=query))})
    status = fields.get("success_action_status")
    if status == "201":
        content: list[tuple[str, Content]] = [
            ("Location", headers["location"]),
            ("Bucket", bucket),
            ("Key", key),
            ("ETag", headers["etag"]),
        ]
        return xml_document(element("PostResponse", content), 201, headers)
    return Response(b"", 200 if status == "200" else 204, headers)


def _redirect(fields: Mapping[str, str]) -> SplitResult | None:
    """Return the redirect of the browser, or None if the field is no http(s) URL."""
    try:
        target = urlsplit(fields.get("success_action_redirect", fields.get("redirect", "")))
    except ValueError:
        return None
    return target if target.scheme in ("http", "https") and target.netloc else None


def _missing(name: str) -> S3Error:
    return invalid_argument(
        f"Bucket POST must contain a field named '{name}'.  If it is specified, please check the order of the fields.",
        name,
    )
