"""Authentication by Signature Version 4, in the Authorization header or in the query.

Source: Amazon S3 API Reference, "Authenticating Requests (AWS Signature Version 4)".
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from broker.dev.s3.canonical import (
    canonical_requests,
    parse_amz_date,
    parse_date_header,
    signature_mismatch,
    string_to_sign,
)
from broker.dev.s3.clock import Clock, iso8601_seconds
from broker.dev.s3.errors import S3Error
from broker.dev.s3.keyring import Keyring
from broker.dev.s3.request import Request
from broker.domain.s3 import sigv4

SKEW_MAX = timedelta(minutes=15)
EXPIRES_MAX_SECONDS: Final = 604_800
_PAYLOAD_HASH: Final = "x-amz-content-sha256"
SIGV2_REFUSED = "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
_QUERY_PARAMETERS = (
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Signature",
    "X-Amz-Date",
    "X-Amz-SignedHeaders",
    "X-Amz-Expires",
)


@dataclass(frozen=True, slots=True)
class Scope:
    """The scope of a credential: its key id, and the day, region and service that it signs for."""

    access_key: str
    day: str
    region: str
    service: str


@dataclass(frozen=True, slots=True)
class Signed:
    """The signature of an authenticated request, which the chunks of its body continue."""

    access_key: str
    secret_key: str
    region: str
    at: datetime
    signature: str
    payload_hash: str

    def sign(self, text: str) -> str:
        """Sign a further text in the same scope."""
        return sigv4.sign(self.secret_key, self.at, self.region, text)


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Check signatures against a keyring, for one region."""

    keyring: Keyring
    clock: Clock
    region: str

    def authenticate(self, request: Request) -> Signed:
        """Return the verified signature, or refuse as S3 does. A request without one is `AccessDenied`."""
        authorization = request.headers.get("authorization")
        in_query = any(name in request.params for name in ("X-Amz-Algorithm", "X-Amz-Signature", "X-Amz-Credential"))
        if authorization is not None and in_query:
            raise S3Error(
                "InvalidArgument",
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, "
                "Signature query string parameter or the Authorization header should be specified",
                ArgumentName="Authorization",
                ArgumentValue=authorization,
            )
        if in_query:
            return self._query(request)
        if authorization is not None:
            return self._header(request, authorization)
        if "Signature" in request.params and "AWSAccessKeyId" in request.params:
            raise S3Error("InvalidRequest", SIGV2_REFUSED)
        raise S3Error("AccessDenied")

    def _header(self, request: Request, authorization: str) -> Signed:
        if authorization.startswith("AWS "):
            raise S3Error("InvalidRequest", SIGV2_REFUSED)
        algorithm, _, rest = authorization.partition(" ")
        if algorithm != sigv4.ALGORITHM:
            raise S3Error(
                "InvalidArgument",
                "Unsupported Authorization Type",
                ArgumentName="Authorization",
                ArgumentValue=authorization,
            )
        parts = dict(re.findall(r"(\w+)=([^,\s]+)", rest))
        if not {"Credential", "SignedHeaders", "Signature"} <= parts.keys():
            raise S3Error("AuthorizationHeaderMalformed")
        scope = self.scope(parts["Credential"], "AuthorizationHeaderMalformed")
        at = _signed_at(request)
        if at is None or scope.day != f"{at:%Y%m%d}":
            raise S3Error("AccessDenied", "AWS authentication requires a valid Date or x-amz-date header")
        secret = self.keyring.secret(scope.access_key, request.headers.get("x-amz-security-token"))
        self._check_skew(at)
        payload_hash = request.headers.get(_PAYLOAD_HASH)
        if payload_hash is None:
            raise S3Error("InvalidRequest", f"Missing required header for this request: {_PAYLOAD_HASH}")
        return self._verify(request, scope, secret, at, parts["SignedHeaders"], parts["Signature"], payload_hash)

    def _query(self, request: Request) -> Signed:
        params = request.params
        code = "AuthorizationQueryParametersError"
        if missing := [name for name in _QUERY_PARAMETERS if name not in params]:
            raise S3Error(
                code,
                "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, "
                "X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.",
                Missing=", ".join(missing),
            )
        if params["X-Amz-Algorithm"] != sigv4.ALGORITHM:
            raise S3Error(code, f'X-Amz-Algorithm only supports "{sigv4.ALGORITHM}" and "AWS4-ECDSA-P256-SHA256"')
        scope = self.scope(params["X-Amz-Credential"], code)
        expires_in = _expires_in(params["X-Amz-Expires"])
        at = parse_amz_date(params["X-Amz-Date"])
        if at is None:
            raise S3Error(code, "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
        if scope.day != params["X-Amz-Date"][:8]:
            raise S3Error(code, f'Invalid credential date "{scope.day}". This date is not the same as X-Amz-Date.')
        secret = self.keyring.secret(scope.access_key, params.get("X-Amz-Security-Token"))
        now, ends_at = self.clock.now(), at + timedelta(seconds=expires_in)
        if at - now > SKEW_MAX:
            raise S3Error("AccessDenied", "Request is not yet valid", ServerTime=iso8601_seconds(now))
        if now >= ends_at:
            raise S3Error(
                "AccessDenied",
                "Request has expired",
                X_Amz_Expires=expires_in,
                Expires=iso8601_seconds(ends_at),
                ServerTime=iso8601_seconds(now),
            )
        signed_headers = params["X-Amz-SignedHeaders"]
        payload_hash = params.get("X-Amz-Content-Sha256", sigv4.UNSIGNED_PAYLOAD)
        if _PAYLOAD_HASH in signed_headers.split(";"):
            # S3 ignores this header of a presigned request unless it is signed.
            payload_hash = request.headers.get(_PAYLOAD_HASH, payload_hash)
        return self._verify(request, scope, secret, at, signed_headers, params["X-Amz-Signature"], payload_hash)

    def scope(self, credential: str, code: str) -> Scope:
        """Read a credential such as `AKID/20151229/us-east-1/s3/aws4_request`; refuse it with `code`."""
        parts = credential.rsplit("/", 4)
        if len(parts) != 5 or parts[4] != "aws4_request" or not re.fullmatch(r"\d{8}", parts[1]):
            raise S3Error(
                code,
                "Error parsing the Credential; the Credential is mal-formed; expecting "
                '"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".',
            )
        access_key, day, region, service, _ = parts
        if region != self.region:
            raise S3Error(
                code,
                f"Error parsing the Credential; the region '{region}' is wrong; expecting '{self.region}'",
                Region=self.region,
            )
        if service != "s3":
            raise S3Error(
                code,
                f'Error parsing the Credential; incorrect service "{service}". This endpoint belongs to "s3".',
            )
        return Scope(access_key, day, region, service)

    def _check_skew(self, at: datetime) -> None:
        now = self.clock.now()
        if abs(now - at) > SKEW_MAX:
            raise S3Error(
                "RequestTimeTooSkewed",
                RequestTime=sigv4.amz_date(at),
                ServerTime=iso8601_seconds(now),
                MaxAllowedSkewMilliseconds=int(SKEW_MAX.total_seconds() * 1000),
            )

    def _verify(
        self,
        request: Request,
        scope: Scope,
        secret: str,
        at: datetime,
        signed_headers: str,
        signature: str,
        payload_hash: str,
    ) -> Signed:
        names = signed_headers.split(";")
        unsigned = [
            name
            for name in dict.fromkeys(request.headers.keys())
            if name.startswith("x-amz-") and name != _PAYLOAD_HASH and name not in names
        ]
        if "host" not in names:
            unsigned.append("host")
        if unsigned:
            raise S3Error(
                "AccessDenied",
                "There were headers present in the request which were not signed",
                HeadersNotSigned=", ".join(unsigned),
            )
        canonicals = canonical_requests(request, names, payload_hash)
        texts = [string_to_sign(at, scope.region, canonical) for canonical in canonicals]
        if not any(sigv4.same_signature(sigv4.sign(secret, at, scope.region, text), signature) for text in texts):
            raise signature_mismatch(scope.access_key, texts[0], signature, canonicals[0])
        request.access_key = scope.access_key
        return Signed(scope.access_key, secret, scope.region, at, signature, payload_hash)


def is_anonymous(request: Request) -> bool:
    """Return whether a request carries no signature of any kind."""
    signs = {"X-Amz-Algorithm", "X-Amz-Signature", "X-Amz-Credential", "AWSAccessKeyId", "Signature"}
    return "authorization" not in request.headers and not signs & request.params.keys()


def _signed_at(request: Request) -> datetime | None:
    """Return the instant of `x-amz-date`, or of `Date` if there is no such header; None if it is malformed."""
    date = request.headers.get("x-amz-date")
    return parse_date_header(request.headers.get("date", "")) if date is None else parse_amz_date(date)


def _expires_in(text: str) -> int:
    code = "AuthorizationQueryParametersError"
    if not re.fullmatch(r"-?\d+", text):
        raise S3Error(code, "X-Amz-Expires should be a number")
    if (seconds := int(text)) < 0:
        raise S3Error(code, "X-Amz-Expires must be non-negative")
    if seconds > EXPIRES_MAX_SECONDS:
        raise S3Error(
            code,
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must "
            f"be less than {EXPIRES_MAX_SECONDS} seconds",
        )
    return seconds
