"""The check of signatures without a server: requests signed by hand at a fixed instant, and each refusal's words."""

import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from starlette.requests import Request as HttpRequest

from broker.dev.s3.auth import Authenticator, Scope, Signed, is_anonymous
from broker.dev.s3.canonical import parse_amz_date, parse_date_header, signature_mismatch
from broker.dev.s3.clock import Clock
from broker.dev.s3.errors import S3Error
from broker.dev.s3.keyring import Keyring, Session
from broker.dev.s3.request import Request, read_request

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SESSION = Session("ASIASESSION", "session-secret", "the-token", NOW + timedelta(minutes=10))
EMPTY = hashlib.sha256().hexdigest()
REGION = "eu-central-1"
CREDENTIAL = f"{KEY}/20260131/{REGION}/s3/aws4_request"
EXPECTED_CREDENTIAL = (
    'Error parsing the Credential; the Credential is mal-formed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/'
    'aws4_request".'
)
SIGV2 = "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
TWICE = (
    "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or "
    "the Authorization header should be specified"
)
NO_DATE = "AWS authentication requires a valid Date or x-amz-date header"
NOT_SIGNED = "There were headers present in the request which were not signed"
IN_HEADER, IN_QUERY = "AuthorizationHeaderMalformed", "AuthorizationQueryParametersError"


class Fixed(Clock):
    """A clock that stands still."""

    def now(self) -> datetime:
        return NOW


@pytest.fixture
def authenticator() -> Authenticator:
    clock = Fixed()
    return Authenticator(Keyring([(KEY, SECRET)], [SESSION], clock), clock, REGION)


def request_of(method: str, path: str, query: str, headers: dict[str, bytes]) -> Request:
    """Return a request; a line feed in a header's value separates the values of a repeated header."""
    raw = [(name.encode(), each) for name, value in headers.items() for each in value.split(b"\n")]
    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "headers": raw}
    return read_request(HttpRequest({**scope, "query_string": query.encode(), "scheme": "http", "server": None}))


def signature_of(canonical: str, at: datetime, secret: str = SECRET, region: str = REGION) -> str:
    scope = f"{at:%Y%m%d}/{region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{at:%Y%m%dT%H%M%SZ}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


def signed(
    at: datetime = NOW,
    key: str = KEY,
    secret: str = SECRET,
    *,
    method: str = "GET",
    path: str = "/videos/a",
    query: str = "",
    canonical_query: str = "",
    signs: str = "",
    without: str = "",
    **changes: str | None,
) -> Request:
    """Return a request that is signed in a header; `changes` are made after that, and None leaves a header out."""
    headers = {"host": "s3.example", "x-amz-content-sha256": EMPTY, "x-amz-date": f"{at:%Y%m%dT%H%M%SZ}"}
    if key == SESSION.access_key:
        headers["x-amz-security-token"] = SESSION.token
    names = sorted(signs.split(";") if signs else headers)
    lines = "".join(f"{name}:{headers[name]}\n" for name in names)
    canonical = f"{method}\n{path}\n{canonical_query}\n{lines}\n{';'.join(names)}\n{EMPTY}"
    credential = f"{key}/{at:%Y%m%d}/{REGION}/s3/aws4_request"
    signature = signature_of(canonical, at, secret)
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={';'.join(names)}, Signature={signature}"
    )
    for name, value in changes.items():
        headers.pop(name.replace("_", "-"), None)
        if value is not None:
            headers[name.replace("_", "-")] = value
    return request_of(method, path, query, {name: value.encode("latin-1") for name, value in headers.items()})


def presigned(
    at: datetime = NOW,
    *,
    seconds: object = 60,
    digest: str = "UNSIGNED-PAYLOAD",
    also: dict[str, str] = {},  # noqa: B006 not changed
    changes: dict[str, str | None] = {},  # noqa: B006 not changed
    headers: dict[str, str] = {},  # noqa: B006 not changed
    unsigned: dict[str, str] = {},  # noqa: B006 not changed
    key: str = KEY,
    secret: str = SECRET,
) -> Request:
    """Return a request that is signed in its URL; `changes` are made after that, and None leaves a parameter out."""
    params = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{key}/{at:%Y%m%d}/{REGION}/s3/aws4_request",
        "X-Amz-Date": f"{at:%Y%m%dT%H%M%SZ}",
        "X-Amz-Expires": str(seconds),
        "X-Amz-SignedHeaders": ";".join(sorted({"host", *headers})),
        **also,
    }
    sent = {"host": "s3.example", **headers}
    lines = "".join(f"{name}:{sent[name]}\n" for name in params["X-Amz-SignedHeaders"].split(";"))
    query = urlencode(sorted(params.items()), quote_via=quote, safe="")
    canonical = f"GET\n/videos/a\n{query}\n{lines}\n{params['X-Amz-SignedHeaders']}\n{digest}"
    all_params = {**params, "X-Amz-Signature": signature_of(canonical, at, secret), **changes}
    pairs = [(name, value) for name, value in all_params.items() if value is not None]
    return request_of(
        "GET", "/videos/a", urlencode(pairs), {name: value.encode() for name, value in (sent | unsigned).items()}
    )


def refusal_of(authenticator: Authenticator, request: Request) -> S3Error:
    with pytest.raises(S3Error) as refused:
        authenticator.authenticate(request)
    assert request.access_key == ""
    return refused.value


def test_a_header_is_believed_and_names_the_signer(authenticator: Authenticator) -> None:
    request = signed()
    known = authenticator.authenticate(request)
    assert request.access_key == KEY
    assert (known.access_key, known.secret_key, known.region, known.at) == (KEY, SECRET, REGION, NOW)
    assert known.signature == request.headers["authorization"][-64:]
    assert known.payload_hash == EMPTY


def test_a_url_is_believed_and_names_the_signer(authenticator: Authenticator) -> None:
    request = presigned()
    known = authenticator.authenticate(request)
    assert request.access_key == KEY
    assert known == Signed(KEY, SECRET, REGION, NOW, request.params["X-Amz-Signature"], "UNSIGNED-PAYLOAD")


def test_chunks_are_signed_in_the_scope_of_their_request() -> None:
    known = Signed(KEY, SECRET, REGION, NOW, "", "")
    key = f"AWS4{SECRET}".encode()
    for part in ("20260131", REGION, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    assert known.sign("text") == hmac.digest(key, b"text", "sha256").hex()


AUTHORIZATION = f"AWS4-HMAC-SHA256 Credential={CREDENTIAL}, SignedHeaders=host;x-amz-content-sha256;x-amz-date"
HEADER_REFUSALS: dict[str, tuple[dict[str, Any], str, str | None, dict[str, object]]] = {
    "version 2": ({"authorization": "AWS AKIA:sig"}, "InvalidRequest", SIGV2, {}),
    "a password": (
        {"authorization": "Basic YTpi"},
        "InvalidArgument",
        "Unsupported Authorization Type",
        {"ArgumentName": "Authorization", "ArgumentValue": "Basic YTpi"},
    ),
    "no signature": ({"authorization": AUTHORIZATION}, IN_HEADER, None, {}),
    "no signed headers": (
        {"authorization": f"AWS4-HMAC-SHA256 Credential={CREDENTIAL}, Signature=s"},
        IN_HEADER,
        None,
        {},
    ),
    "no credential": ({"authorization": "AWS4-HMAC-SHA256 SignedHeaders=host, Signature=s"}, IN_HEADER, None, {}),
    "no date": ({"x_amz_date": None}, "AccessDenied", NO_DATE, {}),
    "a malformed date": ({"x_amz_date": "yesterday"}, "AccessDenied", NO_DATE, {}),
    "a malformed date over a good one": (
        {"x_amz_date": "yesterday", "date": "Sat, 31 Jan 2026 12:00:00 GMT"},
        "AccessDenied",
        NO_DATE,
        {},
    ),
    "another day": ({"x_amz_date": "20260130T235959Z"}, "AccessDenied", NO_DATE, {}),
    "a stranger": (
        {"key": "AKIASTRANGER"},
        "InvalidAccessKeyId",
        None,
        {"AWSAccessKeyId": "AKIASTRANGER"},
    ),
    "a token that is not needed": ({"x_amz_security_token": "t"}, "InvalidToken", None, {"Token_0": "t"}),
    "too old": (
        {"at": NOW - timedelta(minutes=15, seconds=1)},
        "RequestTimeTooSkewed",
        None,
        {
            "RequestTime": "20260131T114459Z",
            "ServerTime": "2026-01-31T12:00:00Z",
            "MaxAllowedSkewMilliseconds": 900_000,
        },
    ),
    "too far ahead": (
        {"at": NOW + timedelta(minutes=15, seconds=1)},
        "RequestTimeTooSkewed",
        None,
        {
            "RequestTime": "20260131T121501Z",
            "ServerTime": "2026-01-31T12:00:00Z",
            "MaxAllowedSkewMilliseconds": 900_000,
        },
    ),
    "no digest": (
        {"x_amz_content_sha256": None},
        "InvalidRequest",
        "Missing required header for this request: x-amz-content-sha256",
        {},
    ),
    "headers that are not signed": (
        {"x_amz_acl": "private", "x_amz_tagging": "a=b", "range": "bytes=0-1"},
        "AccessDenied",
        NOT_SIGNED,
        {"HeadersNotSigned": "x-amz-acl, x-amz-tagging"},
    ),
    "a host and a date that are not signed": (
        {"signs": "x-amz-content-sha256"},
        "AccessDenied",
        NOT_SIGNED,
        {"HeadersNotSigned": "x-amz-date, host"},
    ),
    "in the URL as well": (
        {"query": "X-Amz-Signature=s", "authorization": "AWS4-HMAC-SHA256 a"},
        "InvalidArgument",
        TWICE,
        {"ArgumentName": "Authorization", "ArgumentValue": "AWS4-HMAC-SHA256 a"},
    ),
}


@pytest.mark.parametrize("name", HEADER_REFUSALS)
def test_a_header_is_refused_by_its_fault(name: str, authenticator: Authenticator) -> None:
    changes, code, message, elements = HEADER_REFUSALS[name]
    refused = refusal_of(authenticator, signed(**changes))
    assert (refused.code, refused.elements) == (code, elements)
    assert refused.message == (message or S3Error(code).message)


URL_REFUSALS: dict[str, tuple[dict[str, Any], str, str | None, dict[str, object]]] = {
    **{
        f"no {name}": (
            {"changes": {f"X-Amz-{name}": None}},
            IN_QUERY,
            "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, "
            "X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.",
            {"Missing": f"X-Amz-{name}"},
        )
        for name in ("Algorithm", "Credential", "Signature", "Date", "SignedHeaders", "Expires")
    },
    "another algorithm": (
        {"changes": {"X-Amz-Algorithm": "AWS4-HMAC-MD5"}},
        IN_QUERY,
        'X-Amz-Algorithm only supports "AWS4-HMAC-SHA256" and "AWS4-ECDSA-P256-SHA256"',
        {},
    ),
    "a lifetime that is no number": ({"seconds": "1.5"}, IN_QUERY, "X-Amz-Expires should be a number", {}),
    "a negative lifetime": ({"seconds": -1}, IN_QUERY, "X-Amz-Expires must be non-negative", {}),
    "a lifetime of over a week": (
        {"seconds": 604_801},
        IN_QUERY,
        "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than "
        "604800 seconds",
        {},
    ),
    "a malformed date": (
        {"changes": {"X-Amz-Date": "20260131"}},
        IN_QUERY,
        "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"",
        {},
    ),
    "another day": (
        {"changes": {"X-Amz-Date": "20260130T120000Z"}},
        IN_QUERY,
        'Invalid credential date "20260131". This date is not the same as X-Amz-Date.',
        {},
    ),
    "a stranger": ({"key": "AKIASTRANGER"}, "InvalidAccessKeyId", None, {"AWSAccessKeyId": "AKIASTRANGER"}),
    "too far ahead": (
        {"at": NOW + timedelta(minutes=15, seconds=1)},
        "AccessDenied",
        "Request is not yet valid",
        {"ServerTime": "2026-01-31T12:00:00Z"},
    ),
    "its end": (
        {"at": NOW - timedelta(seconds=60)},
        "AccessDenied",
        "Request has expired",
        {"X_Amz_Expires": 60, "Expires": "2026-01-31T12:00:00Z", "ServerTime": "2026-01-31T12:00:00Z"},
    ),
    "a lifetime of 0": (
        {"seconds": 0},
        "AccessDenied",
        "Request has expired",
        {"X_Amz_Expires": 0, "Expires": "2026-01-31T12:00:00Z", "ServerTime": "2026-01-31T12:00:00Z"},
    ),
}


@pytest.mark.parametrize("name", URL_REFUSALS)
def test_a_url_is_refused_by_its_fault(name: str, authenticator: Authenticator) -> None:
    changes, code, message, elements = URL_REFUSALS[name]
    refused = refusal_of(authenticator, presigned(**changes))
    assert (refused.code, refused.elements) == (code, elements)
    assert refused.message == (message or S3Error(code).message)


@pytest.mark.parametrize(
    "request_",
    [
        signed(NOW - timedelta(minutes=15)),
        signed(NOW + timedelta(minutes=15)),
        signed(key=SESSION.access_key, secret=SESSION.secret_key),
        signed(NOW, signs="host;x-amz-date"),
        signed(x_amz_date=None, date="Sat, 31 Jan 2026 12:00:00 GMT", signs="host;x-amz-content-sha256"),
        signed(x_amz_date=None, date="20260131T120000Z", signs="host;x-amz-content-sha256"),
        signed(x_amz_date=None, date="Sat, 31 Jan 2026 13:00:00 +0100", signs="host;x-amz-content-sha256"),
        signed(method="PUT", path="/videos/a%20b%2B%C3%A9/c"),
        signed(query="b=2&a=1%20x&a&a=0&c=%2F+", canonical_query="a=&a=0&a=1%20x&b=2&c=%2F%20"),
        presigned(NOW + timedelta(minutes=15)),
        presigned(NOW - timedelta(seconds=59)),
        presigned(NOW - timedelta(hours=11), seconds=604_800),
        presigned(also={"X-Amz-Content-Sha256": EMPTY}, digest=EMPTY),
        presigned(headers={"x-amz-content-sha256": EMPTY}, digest=EMPTY),
        presigned(unsigned={"x-amz-content-sha256": EMPTY}),
        presigned(
            also={"X-Amz-Content-Sha256": "UNSIGNED-PAYLOAD"}, headers={"x-amz-content-sha256": EMPTY}, digest=EMPTY
        ),
        presigned(
            key=SESSION.access_key, secret=SESSION.secret_key, also={"X-Amz-Security-Token": SESSION.token}, seconds=600
        ),
    ],
    ids=lambda request: f"{request.raw_path}?{request.http.scope['query_string'].decode()}"[:60],
)
def test_what_is_signed_at_the_bounds_is_believed(request_: Request, authenticator: Authenticator) -> None:
    authenticator.authenticate(request_)
    assert request_.access_key


@pytest.mark.parametrize(
    ("sent", "signed_value"),
    [
        (b"  a \t  b  ", b"a b"),
        (b" a \nb  c\nd", b"a,b c,d"),
        ("é".encode(), "é".encode()),
        ("é".encode("latin-1"), "é".encode("latin-1")),
        ("é".encode("latin-1"), "é".encode()),
        (b"x" + "é".encode("latin-1"), b"x" + "é".encode()),
    ],
)
@pytest.mark.parametrize("is_right", [True, False])
def test_a_value_is_signed_as_it_is_sent_or_in_utf_8(
    sent: bytes, signed_value: bytes, is_right: bool, authenticator: Authenticator
) -> None:
    names = "host;x-amz-content-sha256;x-amz-date;x-amz-meta-a"
    head = f"GET\n/videos/a\n\nhost:s3.example\nx-amz-content-sha256:{EMPTY}\nx-amz-date:20260131T120000Z\n"
    canonical = head.encode() + b"x-amz-meta-a:" + signed_value + f"\n\n{names}\n{EMPTY}".encode()
    text = "AWS4-HMAC-SHA256\n20260131T120000Z\n" + f"20260131/{REGION}/s3/aws4_request\n"
    text += hashlib.sha256(canonical + (b"" if is_right else b"x")).hexdigest()
    signature = Signed(KEY, SECRET, REGION, NOW, "", "").sign(text)
    request = request_of(
        "GET",
        "/videos/a",
        "",
        {
            "host": b"s3.example",
            "x-amz-content-sha256": EMPTY.encode(),
            "x-amz-date": b"20260131T120000Z",
            "x-amz-meta-a": sent,
            "authorization": (
                f"AWS4-HMAC-SHA256 Credential={CREDENTIAL},SignedHeaders={names},Signature={signature}".encode()
            ),
        },
    )
    if is_right:
        assert authenticator.authenticate(request).signature == signature
    else:
        assert refusal_of(authenticator, request).code == "SignatureDoesNotMatch"


def test_a_wrong_signature_is_answered_with_what_should_have_been_signed(authenticator: Authenticator) -> None:
    refused = refusal_of(authenticator, signed(secret="another"))
    canonical = (
        f"GET\n/videos/a\n\nhost:s3.example\nx-amz-content-sha256:{EMPTY}\nx-amz-date:20260131T120000Z\n\n"
        f"host;x-amz-content-sha256;x-amz-date\n{EMPTY}"
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n20260131T120000Z\n20260131/{REGION}/s3/aws4_request\n{digest}"
    assert (refused.code, refused.message) == ("SignatureDoesNotMatch", S3Error("SignatureDoesNotMatch").message)
    assert refused.elements == {
        "AWSAccessKeyId": KEY,
        "StringToSign": text,
        "SignatureProvided": signed(secret="another").headers["authorization"][-64:],
        "StringToSignBytes": text.encode().hex(" "),
        "CanonicalRequest": canonical,
        "CanonicalRequestBytes": canonical.encode().hex(" "),
    }


def test_a_mismatch_of_a_form_shows_no_canonical_request() -> None:
    assert signature_mismatch("A", "a", "s").elements == {
        "AWSAccessKeyId": "A",
        "StringToSign": "a",
        "SignatureProvided": "s",
        "StringToSignBytes": "61",
    }
    assert signature_mismatch("A", "a", "s", b"\xff").elements["CanonicalRequest"] == "�"


@pytest.mark.parametrize(
    ("credential", "scope"),
    [
        (CREDENTIAL, Scope(KEY, "20260131", REGION, "s3")),
        (f"a/b/{CREDENTIAL}", Scope(f"a/b/{KEY}", "20260131", REGION, "s3")),
    ],
)
def test_a_credential_is_read(credential: str, scope: Scope, authenticator: Authenticator) -> None:
    assert authenticator.scope(credential, "Code") == scope


@pytest.mark.parametrize(
    ("credential", "message", "elements"),
    [
        *(
            (text, EXPECTED_CREDENTIAL, {})
            for text in (
                "AKIA/20260131",
                CREDENTIAL.replace("aws4_request", "aws4"),
                CREDENTIAL.replace("20260131", "2026013"),
                CREDENTIAL.replace("20260131", "2026013x"),
            )
        ),
        (
            CREDENTIAL.replace(REGION, "us-west-2"),
            f"Error parsing the Credential; the region 'us-west-2' is wrong; expecting '{REGION}'",
            {"Region": REGION},
        ),
        (
            CREDENTIAL.replace("/s3/", "/sqs/"),
            'Error parsing the Credential; incorrect service "sqs". This endpoint belongs to "s3".',
            {},
        ),
    ],
)
@pytest.mark.parametrize("code", [IN_HEADER, IN_QUERY])
def test_a_credential_is_refused_with_the_code_of_its_place(
    credential: str, message: str, elements: dict[str, str], code: str, authenticator: Authenticator
) -> None:
    in_header = signed(authorization=f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=s")
    in_query = presigned(changes={"X-Amz-Credential": credential})
    refused = refusal_of(authenticator, in_header if code == IN_HEADER else in_query)
    assert (refused.code, refused.message, refused.elements) == (code, message, elements)


@pytest.mark.parametrize(
    ("query", "authorization", "code", "is_bare"),
    [
        ("", None, "AccessDenied", True),
        ("Signature=s", None, "AccessDenied", False),
        ("AWSAccessKeyId=a", None, "AccessDenied", False),
        ("AWSAccessKeyId=a&Signature=s", None, "InvalidRequest", False),
        ("X-Amz-Algorithm=a", None, IN_QUERY, False),
        ("X-Amz-Signature=a", None, IN_QUERY, False),
        ("X-Amz-Credential=a", None, IN_QUERY, False),
        ("X-Amz-Credential=a", "AWS4-HMAC-SHA256 a", "InvalidArgument", False),
        ("X-Amz-Algorithm=a", "AWS4-HMAC-SHA256 a", "InvalidArgument", False),
        ("", "AWS4-HMAC-SHA256 a", IN_HEADER, False),
        ("versionId=a", None, "AccessDenied", True),
    ],
)
def test_a_request_is_anonymous_only_without_any_sign_of_a_signature(
    query: str, authorization: str | None, code: str, is_bare: bool, authenticator: Authenticator
) -> None:
    headers = {} if authorization is None else {"authorization": authorization.encode()}
    request = request_of("GET", "/videos/a", query, {"host": b"s3.example", **headers})
    assert is_anonymous(request) is is_bare
    refused = refusal_of(authenticator, request)
    assert refused.code == code
    if code == "InvalidRequest":
        assert refused.message == SIGV2


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("20260131T120000Z", NOW),
        ("Sat, 31 Jan 2026 12:00:00 GMT", NOW),
        ("Sat, 31 Jan 2026 14:00:00 +0200", NOW),
        ("Sat, 31 Jan 2026 12:00:00 -0000", NOW),
        ("yesterday", None),
        ("", None),
    ],
)
@pytest.mark.usefixtures("in_tokyo")
def test_a_date_is_read_in_utc(text: str, instant: datetime | None) -> None:
    date = parse_date_header(text)
    assert date == instant
    assert date is None or date.tzinfo == UTC
    assert (parse_amz_date(text) is not None) is (text == "20260131T120000Z")
