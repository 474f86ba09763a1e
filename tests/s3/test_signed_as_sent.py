"""Signatures of unusual requests: headers beyond ASCII, dates in `Date`, conditions in a URL, waiting bodies."""

import hashlib
import hmac
import re
import socket
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlsplit

import httpx
import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest

from tests.s3.forms import element, error_code
from tests.s3.requests import Requests

EMPTY = hashlib.sha256().hexdigest()


def signed(
    requests: Requests,
    method: str,
    key: str,
    headers: dict[str, bytes],
    *,
    body: bytes = b"",
    signs: set[str] | None = None,
    at: datetime | None = None,
) -> dict[bytes, bytes]:
    """Sign a request by hand, with the headers' values as they are sent; `signs` names the signed ones."""
    now = datetime.now(UTC) if at is None else at
    url = urlsplit(requests.url(key))
    headers = {
        "host": url.netloc.encode(),
        "x-amz-content-sha256": hashlib.sha256(body).hexdigest().encode(),
        **headers,
    }
    if "date" not in headers:
        headers["x-amz-date"] = f"{now:%Y%m%dT%H%M%SZ}".encode()
    names = sorted(set(headers) if signs is None else signs | {"host"})
    canonical = b"\n".join(
        (
            f"{method}\n{url.path}\n".encode(),
            *(name.encode() + b":" + headers[name] for name in names),
            b"",
            ";".join(names).encode(),
            headers["x-amz-content-sha256"],
        )
    )
    scope = f"{now:%Y%m%d}/{requests.s3.region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{now:%Y%m%dT%H%M%SZ}\n{scope}\n{hashlib.sha256(canonical).hexdigest()}"
    signing_key = f"AWS4{requests.s3.secret_key}".encode()
    for part in scope.split("/"):
        signing_key = hmac.digest(signing_key, part.encode(), "sha256")
    signature = hmac.digest(signing_key, text.encode(), "sha256").hex()
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={requests.s3.access_key}/{scope}, "
        f"SignedHeaders={';'.join(names)}, Signature={signature}"
    )
    return {name.encode(): value for name, value in headers.items()} | {b"authorization": authorization.encode()}


def put(requests: Requests, headers: dict[bytes, bytes], body: bytes = b"") -> httpx.Response:
    """PUT the object `a` with headers as they are."""
    return httpx.put(requests.url(), headers=headers, content=body)


def http_date(at: datetime) -> bytes:
    """Write an instant as HTTP does."""
    return f"{at:%a, %d %b %Y %H:%M:%S GMT}".encode()


@pytest.mark.parametrize("value", ["ÄMÄZÕÑ S3", "中文", "Å  Å", "a\u00a0b"])
def test_a_header_in_utf_8_is_signed_as_it_is_sent(value, requests):
    sent = value.encode()
    signed_value = b" ".join(sent.split(b"  "))
    headers = signed(requests, "PUT", "a", {"cache-control": signed_value, "x-amz-meta-title": signed_value})
    headers[b"cache-control"] = headers[b"x-amz-meta-title"] = sent
    assert put(requests, headers).status_code == 200
    raw = dict(httpx.head(requests.presign(method="HEAD")).headers.raw)
    assert raw[b"cache-control"] == sent
    assert raw[b"x-amz-meta-title"].startswith(b"=?UTF-8?")


def test_boto3_may_send_a_header_in_utf_8(s3_client, bucket):
    s3_client.put_object(Bucket=bucket, Key="a", CacheControl="ÄMÄ", ContentDisposition='attachment; filename="—é.pdf"')
    head = s3_client.head_object(Bucket=bucket, Key="a")
    assert head["CacheControl"].encode("latin-1").decode() == "ÄMÄ"
    assert head["ContentDisposition"].encode("latin-1").decode() == 'attachment; filename="—é.pdf"'


def test_a_header_in_iso_8859_1_may_be_signed_in_utf_8(requests):
    headers = signed(requests, "PUT", "a", {"x-amz-meta-title": "é".encode()})
    headers[b"x-amz-meta-title"] = "é".encode("latin-1")
    assert put(requests, headers).status_code == 200
    head = httpx.head(requests.presign(method="HEAD"))
    assert head.headers["x-amz-meta-title"] == "=?UTF-8?B?w6k=?="


def test_another_header_in_utf_8_than_the_signed_one_is_refused(requests, stored):
    headers = signed(requests, "PUT", "a", {"cache-control": "ÄMÄ".encode()})
    headers[b"cache-control"] = "ÄMÖ".encode()
    response = put(requests, headers)
    assert (response.status_code, error_code(response)) == (403, "SignatureDoesNotMatch")
    assert stored() == []


@pytest.mark.parametrize(
    ("sent", "returned"),
    [
        ("=?UTF-8?Q?actually-ascii?=", "actually-ascii"),
        ("=?UTF-8?B?YWJj?=", "abc"),
        ("=?UTF-8?Q?=C3=84M?=", "=?UTF-8?B?w4RN?="),
        ("=?UTF-8?B?=GGG?=", "=?UTF-8?B?=GGG?="),
        ("=?no-such-charset?Q?a?=", "=?no-such-charset?Q?a?="),
    ],
)
def test_encoded_words_in_metadata_are_decoded(sent, returned, requests):
    assert requests.send("PUT", "a", {"x-amz-meta-a": sent}).status_code == 200
    assert httpx.head(requests.presign(method="HEAD")).headers["x-amz-meta-a"] == returned


@pytest.mark.parametrize("write", [http_date, lambda at: f"{at:%Y%m%dT%H%M%SZ}".encode()], ids=["http", "iso8601"])
@pytest.mark.parametrize("signs_date", [True, False], ids=["signed", "unsigned"])
def test_a_date_header_will_do(write, signs_date, requests, stored):
    signs = {"date", "x-amz-content-sha256"} if signs_date else {"x-amz-content-sha256"}
    now = datetime.now(UTC)
    headers = signed(requests, "PUT", "a", {"date": write(now)}, signs=signs, at=now)
    assert put(requests, headers).status_code == 200
    assert stored() == ["a"]


@pytest.mark.parametrize(
    ("date", "status", "code"),
    [
        (b"yesterday", 403, "AccessDenied"),
        (b"", 403, "AccessDenied"),
        (http_date(datetime(2020, 1, 1, tzinfo=UTC)), 403, "AccessDenied"),
    ],
)
def test_another_date_header_is_refused(date, status, code, requests, stored):
    response = put(requests, signed(requests, "PUT", "a", {"date": date}))
    assert (response.status_code, error_code(response)) == (status, code)
    assert stored() == []


def test_a_date_header_may_be_fifteen_minutes_off_and_no_more(requests, embedded_s3, stored):
    now = datetime.now(UTC)
    headers = signed(requests, "PUT", "a", {"date": http_date(now)}, at=now)
    embedded_s3.set_clock(890)
    assert put(requests, headers).status_code == 200
    embedded_s3.set_clock(960)
    response = put(requests, headers)
    assert (response.status_code, error_code(response)) == (403, "RequestTimeTooSkewed")


def test_x_amz_date_wins_over_date(requests):
    url = requests.url()
    headers = requests.signed_headers("PUT", url) | {"Date": "Wed, 01 Jan 2020 00:00:00 GMT"}
    assert httpx.put(url, headers=headers).status_code == 200


def test_a_body_digest_need_not_be_a_signed_header(requests, stored):
    headers = signed(requests, "PUT", "a", {}, body=b"body", signs={"x-amz-date"})
    assert put(requests, headers, b"body").status_code == 200
    assert stored() == ["a"]


def test_an_unsigned_body_digest_is_part_of_the_signature_all_the_same(requests, stored):
    headers = signed(requests, "PUT", "a", {}, body=b"body", signs={"x-amz-date"})
    headers[b"x-amz-content-sha256"] = hashlib.sha256(b"other").hexdigest().encode()
    response = put(requests, headers, b"other")
    assert (response.status_code, error_code(response)) == (403, "SignatureDoesNotMatch")
    assert stored() == []


def test_any_other_amz_header_must_be_signed(requests, stored):
    headers = signed(requests, "PUT", "a", {}, signs={"x-amz-date"}) | {b"x-amz-meta-a": b"1"}
    response = put(requests, headers)
    assert (response.status_code, error_code(response)) == (403, "AccessDenied")
    assert element(response, "HeadersNotSigned") == "x-amz-meta-a"
    assert stored() == []


@pytest.mark.parametrize("digest", ["UNSIGNED-PAYLOAD", EMPTY, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "nonsense"])
def test_a_presigned_url_ignores_a_body_digest_that_is_not_signed(digest, requests, s3_client, bucket):
    url = requests.presign(method="PUT")
    assert httpx.put(url, content=b"body", headers={"x-amz-content-sha256": digest}).status_code == 200
    assert s3_client.get_object(Bucket=bucket, Key="a")["Body"].read() == b"body"


def presigned_with(requests: Requests, headers: dict[str, str]) -> str:
    request = AWSRequest("PUT", requests.url(), headers=headers)
    S3SigV4QueryAuth(requests.credentials, "s3", requests.s3.region, 60).add_auth(request)
    return str(request.url)


def test_a_presigned_url_may_sign_a_body_digest(requests, stored):
    digest = {"x-amz-content-sha256": hashlib.sha256(b"body").hexdigest()}
    url = presigned_with(requests, {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"})
    assert httpx.put(url, content=b"body", headers=digest).status_code == 403
    assert httpx.put(url, content=b"body").status_code == 403
    assert stored() == []
    sent = {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
    assert httpx.put(url, content=b"body", headers=sent).status_code == 200


@pytest.mark.parametrize(
    ("condition", "status", "code"),
    [
        ("If-None-Match=%2A", 412, "PreconditionFailed"),
        ("If-Match=d41d8cd98f00b204e9800998ecf8427e", 412, "PreconditionFailed"),
        ("If-Match=%2A", 501, "NotImplemented"),
        ("If-None-Match=abc", 501, "NotImplemented"),
    ],
)
def test_a_presigned_put_keeps_to_the_condition_in_its_query(condition, status, code, requests, s3_client, bucket):
    s3_client.put_object(Bucket=bucket, Key="a", Body=b"first")
    response = httpx.put(requests.presign(method="PUT", query=f"?{condition}"), content=b"second")
    assert (response.status_code, error_code(response)) == (status, code)
    assert s3_client.get_object(Bucket=bucket, Key="a")["Body"].read() == b"first"


def test_a_presigned_put_succeeds_while_its_condition_holds(requests, s3_client, bucket):
    assert httpx.put(requests.presign(method="PUT", query="?If-None-Match=*"), content=b"first").status_code == 200
    etag = s3_client.head_object(Bucket=bucket, Key="a")["ETag"]
    url = requests.presign(method="PUT", query=f"?If-Match={quote(etag)}")
    assert httpx.put(url, content=b"second").status_code == 200
    assert httpx.put(url, content=b"third").status_code == 412
    assert s3_client.get_object(Bucket=bucket, Key="a")["Body"].read() == b"second"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/a", 404, "NoSuchBucket"),
        ("PUT", "/a", 404, "NoSuchBucket"),
        ("DELETE", "/a", 404, "NoSuchBucket"),
        ("GET", "", 404, "NoSuchBucket"),
        ("GET", "?versioning", 404, "NoSuchBucket"),
        ("PUT", "", 403, "AccessDenied"),
    ],
)
def test_an_anonymous_request_learns_that_a_bucket_is_absent(method, path, status, code, embedded_s3):
    response = httpx.request(method, f"{embedded_s3.endpoint_url}/no-such-bucket-1{path}")
    assert (response.status_code, error_code(response)) == (status, code)


def test_an_anonymous_head_learns_that_a_bucket_is_absent(embedded_s3, requests):
    assert httpx.head(f"{embedded_s3.endpoint_url}/no-such-bucket-1/a").status_code == 404
    assert httpx.head(requests.url()).status_code == 403


def talk(requests: Requests, headers: dict[bytes, bytes], body: bytes) -> list[bytes]:
    """PUT with `Expect: 100-continue`, wait for the server as a client should; return the status lines."""
    address = (urlsplit(requests.s3.endpoint_url).hostname, requests.s3.port)
    head = b"PUT " + urlsplit(requests.url()).path.encode() + b" HTTP/1.1\r\n"
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers.items())
    length = b"content-length: %d\r\nexpect: 100-continue\r\n\r\n" % len(body)
    statuses = []
    with socket.create_connection(address, timeout=10) as connection, connection.makefile("rb") as answers:
        connection.sendall(head + lines + length)
        statuses.append(answers.readline().strip())
        if statuses[0].startswith(b"HTTP/1.1 100"):
            assert answers.readline() == b"\r\n"
            connection.sendall(body)
            statuses.append(answers.readline().strip())
        else:
            # The server ends the connection, because a body that was announced does not come.
            assert b"connection: close" in answers.read().lower()
    return statuses


def test_a_client_that_waits_is_told_to_go_on(requests, stored):
    headers = signed(requests, "PUT", "a", {}, body=b"body")
    assert talk(requests, headers, b"body") == [b"HTTP/1.1 100 Continue", b"HTTP/1.1 200 OK"]
    assert stored() == ["a"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({b"authorization": b"AWS4-HMAC-SHA256 Credential=a/20200101/b/s3/aws4_request"}, b"HTTP/1.1 400 Bad Request"),
        ({b"x-amz-meta-a": b"unsigned"}, b"HTTP/1.1 403 Forbidden"),
        ({b"x-amz-content-sha256": EMPTY.encode()}, b"HTTP/1.1 403 Forbidden"),
    ],
)
def test_a_client_that_waits_is_refused_before_it_sends(change, status, requests, stored):
    headers = signed(requests, "PUT", "a", {}, body=b"body") | change
    assert talk(requests, headers, b"body") == [status]
    assert stored() == []


def test_a_client_that_waits_learns_first_that_a_condition_fails(requests, s3_client, bucket):
    s3_client.put_object(Bucket=bucket, Key="a", Body=b"first")
    headers = signed(requests, "PUT", "a", {"if-none-match": b"*"}, body=b"body")
    assert talk(requests, headers, b"body") == [b"HTTP/1.1 412 Precondition Failed"]


@pytest.mark.parametrize("source", ["b+c", "b%20c", "b c"])
def test_a_plus_sign_in_a_copy_source_is_a_space(source, requests, s3_client, bucket):
    s3_client.put_object(Bucket=bucket, Key="b c", Body=b"body")
    assert requests.send("PUT", "a", {"x-amz-copy-source": f"/{bucket}/{source}"}).status_code == 200
    assert s3_client.get_object(Bucket=bucket, Key="a")["Body"].read() == b"body"


def test_an_encoded_plus_sign_in_a_copy_source_stays_one(requests, s3_client, bucket):
    s3_client.put_object(Bucket=bucket, Key="b+c", Body=b"body")
    assert requests.send("PUT", "a", {"x-amz-copy-source": f"/{bucket}/b%2Bc"}).status_code == 200
    assert requests.send("PUT", "a", {"x-amz-copy-source": f"/{bucket}/b+c"}).status_code == 404


def test_a_presigned_url_of_an_hour_ago_is_refused_with_instants_to_the_second(requests, embedded_s3):
    url = requests.presign(expires_in=60)
    embedded_s3.set_clock(timedelta(hours=1).total_seconds())
    response = httpx.get(url)
    for name in ("Expires", "ServerTime"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", element(response, name) or "")
