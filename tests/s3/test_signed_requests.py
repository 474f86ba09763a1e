"""Signatures in headers and in URLs: what is refused, and that nothing is stored or shown then."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from botocore.credentials import Credentials

from broker.dev.s3 import Session
from tests.s3.forms import element, error_code
from tests.s3.requests import Requests

SECRET = b"only its owner may read this"


@dataclass(frozen=True)
class Refusal:
    """A spoilt request, and how S3 refuses it. `clock` is where the server's clock stands, in seconds."""

    name: str
    send: Callable[[Requests], httpx.Response]
    status: int
    code: str
    says: str = ""
    clock: float = 0


def presigned(change: Callable[[str], str] = lambda url: url, **arguments) -> Callable[[Requests], httpx.Response]:
    """GET a presigned URL after a change to it."""
    return lambda requests: httpx.get(change(requests.presign("secret", **arguments)))


def without(name: str) -> Callable[[str], str]:
    """Leave a parameter out of a URL."""

    def change(url: str) -> str:
        path, _, query = url.partition("?")
        return path + "?" + "&".join(pair for pair in query.split("&") if not pair.startswith(f"{name}="))

    return change


def put(**changes: str | None) -> Callable[[Requests], httpx.Response]:
    """PUT with headers that are changed after signing; None leaves one out."""

    def send(requests: Requests) -> httpx.Response:
        url = requests.url("new")
        headers = requests.signed_headers("PUT", url, body=b"body")
        for name, value in changes.items():
            headers.pop(name.replace("_", "-"), None)
            if value is not None:
                headers[name.replace("_", "-")] = value
        return httpx.put(url, headers=headers, content=b"body")

    return send


def signed_by(**arguments) -> Callable[[Requests], httpx.Response]:
    """Return a PUT with another signer, or signed for another request."""

    def send(requests: Requests) -> httpx.Response:
        url = requests.url("new")
        return httpx.put(url, headers=requests.signed_headers("PUT", url, body=b"body", **arguments), content=b"body")

    return send


def anonymous(method: str, key: str) -> Callable[[Requests], httpx.Response]:
    """Send without any signature."""
    return lambda requests: httpx.request(method, requests.url(key))


def bare_deletion(requests: Requests) -> httpx.Response:
    """Delete a list of keys that nothing checks."""
    url, body = (
        f"{requests.s3.endpoint_url}/{requests.bucket}?delete",
        b"<Delete><Object><Key>secret</Key></Object></Delete>",
    )
    return httpx.post(url, headers=requests.signed_headers("POST", url, body=body), content=body)


def new_bucket(name: str) -> Callable[[Requests], httpx.Response]:
    """Create a bucket."""

    def send(requests: Requests) -> httpx.Response:
        url = f"{requests.s3.endpoint_url}/{name}"
        return httpx.put(url, headers=requests.signed_headers("PUT", url))

    return send


def both_ways(requests: Requests) -> httpx.Response:
    """Sign in the header and in the query."""
    url = requests.presign("secret")
    return httpx.get(url, headers=requests.signed_headers("GET", url))


def other_body(requests: Requests) -> httpx.Response:
    """Sign one body and send another."""
    url = requests.url("new")
    return httpx.put(url, headers=requests.signed_headers("PUT", url, body=b"body"), content=b"BODY")


def unsigned_header(requests: Requests) -> httpx.Response:
    """Add metadata to a presigned PUT."""
    return httpx.put(requests.presign("new", method="PUT"), headers={"x-amz-meta-a": "1"}, content=b"body")


def declared(**headers: str) -> Callable[[Requests], httpx.Response]:
    """PUT with further signed headers."""
    return lambda requests: requests.send(
        "PUT", "new", {name.replace("_", "-"): value for name, value in headers.items()}, b"body"
    )


STRANGER = Credentials("AKIA0000000000000000", "secret")
REFUSALS = [
    # URLs
    Refusal("a URL that has expired", presigned(), 403, "AccessDenied", "Request has expired", 61),
    Refusal("a URL from the future", presigned(), 403, "AccessDenied", "not yet valid", -1000),
    Refusal(
        "a URL of a changed object",
        presigned(lambda url: url.replace("secret", "secre%74x")),
        403,
        "SignatureDoesNotMatch",
    ),
    Refusal(
        "a URL that lives longer",
        presigned(lambda url: url.replace("Expires=60", "Expires=600")),
        403,
        "SignatureDoesNotMatch",
    ),
    Refusal(
        "a URL with an added override",
        presigned(lambda url: url + "&response-content-type=text/html"),
        403,
        "SignatureDoesNotMatch",
    ),
    Refusal(
        "a URL with another signature",
        presigned(lambda url: url[:-64] + "0" * 64),
        403,
        "SignatureDoesNotMatch",
    ),
    Refusal(
        "a URL used with another method",
        lambda requests: httpx.put(requests.presign("new"), content=b"body"),
        403,
        "SignatureDoesNotMatch",
    ),
    Refusal("a URL of a stranger", presigned(credentials=STRANGER), 403, "InvalidAccessKeyId"),
    Refusal(
        "a URL of another region",
        presigned(region="us-west-2"),
        400,
        "AuthorizationQueryParametersError",
        "the region 'us-west-2' is wrong; expecting 'eu-central-1'",
    ),
    Refusal(
        "a URL for over a week",
        presigned(expires_in=604_801),
        400,
        "AuthorizationQueryParametersError",
        "less than a week",
    ),
    Refusal(
        "a URL for a negative time",
        presigned(expires_in=-1),
        400,
        "AuthorizationQueryParametersError",
        "non-negative",
    ),
    Refusal(
        "a URL for no number",
        presigned(lambda url: url.replace("Expires=60", "Expires=x")),
        400,
        "AuthorizationQueryParametersError",
        "number",
    ),
    *(
        Refusal(f"a URL without {name}", presigned(without(name)), 400, "AuthorizationQueryParametersError")
        for name in ("X-Amz-Algorithm", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature")
    ),
    Refusal(
        "a URL of signature version 2",
        lambda requests: httpx.get(requests.url("secret") + "?AWSAccessKeyId=A&Signature=s&Expires=9"),
        400,
        "InvalidRequest",
        "Please use AWS4-HMAC-SHA256",
    ),
    Refusal("a presigned PUT with a further header", unsigned_header, 403, "AccessDenied", "not signed"),
    Refusal("an empty version", presigned(query="?versionId="), 400, "InvalidArgument", "empty string"),
    Refusal("a version that is none", presigned(query="?versionId=x"), 400, "InvalidArgument", "Invalid version id"),
    *(
        Refusal(
            f"an answer's header of {value}",
            presigned(query=f"?response-content-disposition={value}"),
            400,
            "InvalidArgument",
            "cannot be represented using ISO-8859-1",
        )
        for value in ("a%0D%0ASet-Cookie:b", "%E6%96%87")
    ),
    Refusal("two signatures", both_ways, 400, "InvalidArgument", "Only one auth mechanism"),
    # Headers
    Refusal("an anonymous read", anonymous("GET", "secret"), 403, "AccessDenied"),
    Refusal("an anonymous write", anonymous("PUT", "new"), 403, "AccessDenied"),
    Refusal("an anonymous delete", anonymous("DELETE", "secret"), 403, "AccessDenied"),
    Refusal("an anonymous list", anonymous("GET", ""), 403, "AccessDenied"),
    Refusal("a stranger", signed_by(credentials=STRANGER), 403, "InvalidAccessKeyId"),
    Refusal("a region that is not this one", signed_by(region="us-west-2"), 400, "AuthorizationHeaderMalformed"),
    Refusal("a request 16 minutes old", put(), 403, "RequestTimeTooSkewed", clock=16 * 60),
    Refusal("a request 16 minutes ahead", put(), 403, "RequestTimeTooSkewed", clock=-16 * 60),
    Refusal("another body than was signed", other_body, 400, "XAmzContentSHA256Mismatch"),
    Refusal("a changed date", put(X_Amz_Date="20200101T000000Z"), 403, "AccessDenied"),
    Refusal("no digest of the body", put(X_Amz_Content_SHA256=None), 400, "InvalidRequest"),
    Refusal("a digest that is none", put(X_Amz_Content_SHA256="x"), 403, "SignatureDoesNotMatch"),
    Refusal(
        "a digest of another body",
        put(X_Amz_Content_SHA256=hashlib.sha256(b"x").hexdigest()),
        403,
        "SignatureDoesNotMatch",
    ),
    Refusal("a further header", put(x_amz_acl="private"), 403, "AccessDenied", "not signed"),
    Refusal("signature version 2", put(Authorization="AWS AKIA:sig"), 400, "InvalidRequest"),
    Refusal("a password", put(Authorization="Basic YTpi"), 400, "InvalidArgument", "Unsupported"),
    Refusal(
        "half a header",
        put(Authorization="AWS4-HMAC-SHA256 Credential=a"),
        400,
        "AuthorizationHeaderMalformed",
    ),
    # Bodies
    Refusal("a wrong Content-MD5", declared(Content_MD5="AAAAAAAAAAAAAAAAAAAAAA=="), 400, "BadDigest"),
    Refusal("a Content-MD5 that is none", declared(Content_MD5="AA"), 400, "InvalidDigest"),
    Refusal("a wrong CRC32", declared(x_amz_checksum_crc32="AAAAAA=="), 400, "BadDigest"),
    Refusal("a short SHA-256", declared(x_amz_checksum_sha256="AAAAAA=="), 400, "InvalidRequest"),
    Refusal("a key of 1025 bytes", lambda requests: requests.send("PUT", "k" * 1025), 400, "KeyTooLongError"),
    Refusal("metadata of over 2 KB", declared(x_amz_meta_a="x" * 2100), 400, "MetadataTooLarge"),
    Refusal("an unknown storage class", declared(x_amz_storage_class="FAST"), 400, "InvalidStorageClass"),
    Refusal(
        "an announced checksum that is not there", declared(x_amz_sdk_checksum_algorithm="CRC32"), 400, "InvalidRequest"
    ),
    Refusal("a deletion of keys without a checksum", bare_deletion, 400, "InvalidRequest", "Missing required header"),
    *(
        Refusal(f"a bucket named {name}", new_bucket(name), 400, "InvalidBucketName")
        for name in ("ab", "...", "UPPER", "under_score", "192.168.1.1", "a..b", "-a-", "b" * 64)
    ),
    Refusal("an access control list", declared(x_amz_acl="public-read"), 400, "AccessControlListNotSupported"),
    Refusal("a POST to a key", lambda requests: requests.send("POST", "new"), 405, "MethodNotAllowed"),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.name)
def test_s3_refuses(refusal, requests, s3_client, bucket, stored):
    s3_client.put_object(Bucket=bucket, Key="secret", Body=SECRET)
    requests.s3.set_clock(refusal.clock)
    response = refusal.send(requests)
    requests.s3.set_clock(0)
    assert (response.status_code, error_code(response)) == (refusal.status, refusal.code)
    assert refusal.says in (element(response, "Message") or "")
    assert SECRET not in response.content
    assert stored() == ["secret"]


def test_a_url_is_good_until_it_expires(requests, s3_client, bucket):
    s3_client.put_object(Bucket=bucket, Key="secret", Body=SECRET)
    url = requests.presign("secret", expires_in=600)
    requests.s3.set_clock(570)
    response = httpx.get(url)
    requests.s3.set_clock(0)
    assert (response.status_code, response.content) == (200, SECRET)


def test_a_request_14_minutes_old_is_believed(requests, stored):
    requests.s3.set_clock(14 * 60)
    response = put()(requests)
    requests.s3.set_clock(0)
    assert response.status_code == 200
    assert stored() == ["new"]


def test_a_refused_url_tells_the_times(requests):
    url = requests.presign("secret")
    requests.s3.set_clock(100)
    response = httpx.get(url)
    requests.s3.set_clock(0)
    assert element(response, "X-Amz-Expires") == "60"
    expires, server_time = element(response, "Expires"), element(response, "ServerTime")
    assert expires is not None
    assert server_time is not None
    assert expires < server_time


def test_a_presigned_put_stores(requests, stored):
    response = httpx.put(requests.presign("new", method="PUT"), content=b"body")
    assert response.status_code == 200
    assert stored() == ["new"]


@pytest.mark.parametrize(
    ("token", "clock", "answer"),
    [
        ("the-token", 0, (200, "")),
        (None, 0, (403, "InvalidAccessKeyId")),
        ("another", 0, (400, "InvalidToken")),
        ("the-token", 3601, (400, "ExpiredToken")),
    ],
    ids=["its token", "no token", "another token", "its token after its end"],
)
def test_a_session_presigns_with(token, clock, answer, requests, s3_client, bucket):
    s3_client.put_object(Bucket=bucket, Key="secret", Body=SECRET)
    ends_at = datetime.now(UTC) + timedelta(hours=1)
    requests.s3.add_session(Session("ASIA00000000000TEST2", "session-secret", "the-token", ends_at))
    credentials = Credentials("ASIA00000000000TEST2", "session-secret", token)
    url = requests.presign("secret", credentials=credentials, expires_in=7200)
    requests.s3.set_clock(clock)
    response = httpx.get(url)
    requests.s3.set_clock(0)
    code = "" if response.status_code == 200 else error_code(response)
    assert (response.status_code, code) == answer


@pytest.mark.parametrize(
    "key", ["a b", "a+b", "a%20b", "a/b//c", "ünï/電影.mp4", "a~b!c'(d)*", "a&b=c?d#e", ".a", "a;b,c@d:e$"]
)
def test_a_key_of_any_letters_is_signed_stored_and_read(key, requests, s3_client, bucket, stored):
    s3_client.put_object(Bucket=bucket, Key=key, Body=SECRET)
    assert stored() == [key]
    url = s3_client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=60)
    assert httpx.get(url).content == SECRET
